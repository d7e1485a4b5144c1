"""The marketing system of a shop, on Shardcast's public SDK: promotions and coupons to ten million users."""
