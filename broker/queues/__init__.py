"""Queues of topics: which message goes where, and the index from offsets to positions in the log."""
