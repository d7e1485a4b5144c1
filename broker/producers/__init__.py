"""Who published what: terms, holders, sequences and cursors, so that a publish counts once whatever dies."""
