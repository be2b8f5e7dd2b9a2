"""Builds stores: plan → one task per shard → finalise → verify."""
