"""What becomes of promotions that are under way."""
