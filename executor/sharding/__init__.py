"""Which rows a shard owns, how they are read, and how what they lead to is published exactly once."""
