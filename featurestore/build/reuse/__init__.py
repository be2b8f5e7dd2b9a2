"""Nothing is computed twice: vectors found by the digest of their model input, shards taken over whole."""
