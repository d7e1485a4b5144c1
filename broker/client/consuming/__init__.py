"""The two ways in which a member of a consumer group reads: whole queues by offset, or messages by lease."""
