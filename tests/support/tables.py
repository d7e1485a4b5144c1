"""Tables that shards are scanned from."""

from pathlib import Path

import sqlalchemy as sa


def table_of_users(path: Path, rows: int) -> str:
    """The URL of a new database with `users`, whose ids are 1 to `rows`."""
    url = f"sqlite:///{path}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE users (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO users VALUES (:id)"), [{"id": n} for n in range(1, rows + 1)])
    engine.dispose()
    return url
