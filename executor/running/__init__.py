"""One attempt: its handler, its context, its end."""
