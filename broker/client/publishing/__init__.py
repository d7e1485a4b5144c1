"""Publishing: plain producers, the producer of a shard, transactions."""
