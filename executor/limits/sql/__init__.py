"""Limits in SQLite, PostgreSQL, MariaDB and MySQL."""
