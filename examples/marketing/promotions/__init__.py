"""Promotions: what they are, in which states, and how they are saved."""
