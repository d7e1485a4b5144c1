"""The table that a scan reads: what is asked of it, and in how small portions."""
