"""From finished shards to a store: metadata, manifest, swap, locks, and what is removed afterwards."""
