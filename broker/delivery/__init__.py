"""Handing messages out: reading a queue's batch, and waiting for the first message."""
