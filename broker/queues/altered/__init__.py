"""Queues whose number changes: what may change, and how the order of keys outlives it."""
