"""One task = one shard: embedding its windows, writing it in one go, finding the window at fault."""
