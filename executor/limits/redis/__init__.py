"""Limits in Redis."""
