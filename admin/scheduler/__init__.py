"""The loops: each wakes when a bell rings or something is due, and does one thing."""
