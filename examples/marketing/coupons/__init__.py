"""Coupons: their stock, who holds them, and their end."""
