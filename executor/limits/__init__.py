"""Limits by key that all processes share: once, rates and caps, over SQL, Redis or this process's memory."""
