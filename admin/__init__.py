"""The admin: decides when and where, and keeps the books."""
