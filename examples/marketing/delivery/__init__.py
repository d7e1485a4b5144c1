"""Delivery: what becomes of each push message, and the providers that take it to users."""
