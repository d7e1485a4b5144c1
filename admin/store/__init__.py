"""Where the admin keeps its books: SQL through SQLAlchemy, and a fake in memory."""
