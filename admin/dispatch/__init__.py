"""How assignments reach executors."""
