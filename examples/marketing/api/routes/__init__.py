"""One router a file; api/app.py lists them."""
