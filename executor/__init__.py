"""The executor: runs handlers, and scans and publishes its shards."""
