"""What finds frames by time and records by key: small files beside each segment, derived from the log."""
