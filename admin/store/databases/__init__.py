"""The databases that the admin keeps its books in: SQLite of its own, or a server that several admins share."""
