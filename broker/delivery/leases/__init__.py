"""Leases: which message of a queue a group has handed out, to whom, how often, and what is done."""
