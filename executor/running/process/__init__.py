"""Handlers in a process of their own, which is killed where the attempt is to stop."""
