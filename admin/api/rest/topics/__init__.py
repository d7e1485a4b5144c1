"""Topics, consumer groups and dead letters over REST."""
