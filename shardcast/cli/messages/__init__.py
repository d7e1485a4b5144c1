"""What the command line says about messages: topics, consumer groups, dead letters."""
