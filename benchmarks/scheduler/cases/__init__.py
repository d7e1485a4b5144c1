"""The cases: each sets its own stage up and gives its figures."""
