"""The broker's topics and groups, reached through its client."""
