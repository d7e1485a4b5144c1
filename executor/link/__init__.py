"""The link to the admin: what is told to this executor, and what it tells back."""
