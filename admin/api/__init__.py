"""The interfaces to people and programs; independent of each other, everything goes through operations."""
