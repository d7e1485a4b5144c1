"""What operators ask for: topics, groups, dead letters, a look at messages, the broker as a whole."""
