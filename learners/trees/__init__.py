"""Boosted trees, streamed from feature batches shard by shard."""
