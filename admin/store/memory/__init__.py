"""The stores in memory: for tests and trials, with the same behaviour as SQL but for outliving the process."""
