"""The users, written the fast way of each database."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from operator import attrgetter
from pathlib import Path

import sqlalchemy as sa

from benchmarks.executor.table import psycopg_url
from benchmarks.servers import postgresql
from examples.marketing.scenarios.users import User, user
from examples.marketing.store.database import Database

_COLUMNS = ", ".join(User.__slots__)
_values = attrgetter(*User.__slots__)


@contextmanager
def filled(database: str, count: int, directory: Path) -> Iterator[str]:
    """The URL of a database of the system with users 1 to `count`. Raises Skipped where it is not installed."""
    if database == "sqlite":
        path = directory / "marketing.db"
        _create(f"sqlite:///{path}")
        _fill_sqlite(path, count)
        yield f"sqlite:///{path}"
        return
    with postgresql(directory / database) as server:
        url = sa.make_url(server.url).set(drivername="postgresql+psycopg")
        _create(url.render_as_string(hide_password=False))
        _fill_postgresql(url, count)
        yield url.render_as_string(hide_password=False)


def _fill_sqlite(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        marks = ", ".join("?" * len(User.__slots__))
        connection.executemany(f"INSERT INTO users ({_COLUMNS}) VALUES ({marks})", _rows(count))
        connection.commit()


def _fill_postgresql(url: sa.URL, count: int) -> None:
    import psycopg

    with psycopg.connect(psycopg_url(url), autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY users ({_COLUMNS}) FROM STDIN") as copy:
            for row in _rows(count):
                copy.write_row(row)
        cursor.execute("VACUUM ANALYZE users")


def _create(url: str) -> None:
    with closing(Database(url)) as database:
        database.create()


def _rows(count: int) -> Iterator[Sequence[object]]:
    for number in range(1, count + 1):
        yield _values(user(number))
