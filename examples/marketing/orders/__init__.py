"""Orders: placed, cancelled, and what three groups of consumers make of a cancelled one."""
