"""How loops and watchers are woken."""
