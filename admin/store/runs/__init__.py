"""Runs and shards in SQL: those that have not ended, and the history of the others."""
