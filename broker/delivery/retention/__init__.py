"""How long messages are kept: by age, by size, and as long as a group needs them."""
