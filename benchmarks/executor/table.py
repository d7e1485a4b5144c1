"""The table that is scanned, filled the fast way of each database and read by all cases."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.executor.app import BUCKETS, TABLE
from benchmarks.servers import Server, mariadb, postgresql
from executor.sharding.hash import stable_hash

CITIES = ("Shanghai", "Berlin", "Lagos", "Lima")

_CREATE = (
    f"CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL, city VARCHAR(30) NOT NULL, "
    "bucket INTEGER NOT NULL)"
)
_INDEX = f"CREATE INDEX ix_users_bucket ON {TABLE} (bucket, id)"
_ROWS_A_WRITE = 10_000

Row = tuple[int, str, str, int]


@dataclass(frozen=True, slots=True)
class Table:
    """`url` is SQLAlchemy's."""

    database: str
    version: str
    url: str
    rows: int
    server: Server | None = None

    def pids(self) -> Sequence[int]:
        """Of the database's processes, none where it lives in the readers'."""
        return self.server.pids() if self.server else ()


@contextmanager
def filled(database: str, rows: int, directory: Path) -> Iterator[Table]:
    """Ids from 1 to `rows`. Raises Skipped where the database is not installed."""
    if database == "sqlite":
        path = directory / "users.db"
        _fill_sqlite(path, rows)
        yield Table(database, sqlite3.sqlite_version, f"sqlite:///{path}", rows)
        return
    is_postgresql = database == "postgresql"
    with (postgresql if is_postgresql else mariadb)(directory / database) as server:
        url = sa.make_url(server.url)
        if is_postgresql:
            url = url.set(drivername="postgresql+psycopg")
        (_fill_postgresql if is_postgresql else _fill_mariadb)(url, rows)
        yield Table(database, _version(url), url.render_as_string(hide_password=False), rows, server)


def _rows(count: int) -> Iterator[Row]:
    """About 100 bytes each."""
    for number in range(1, count + 1):
        name = f"Customer number {number:010}, Elm Street {number % 997:03}, second floor on the left"
        yield number, name, CITIES[number % len(CITIES)], stable_hash(number) % BUCKETS


def _fill_sqlite(path: Path, rows: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        connection.execute(_CREATE.replace("BIGINT", "INTEGER"))  # only then the key is the row's own number
        connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)", _rows(rows))
        connection.execute(_INDEX)
        connection.commit()


def _fill_postgresql(url: sa.URL, rows: int) -> None:
    import psycopg

    with psycopg.connect(psycopg_url(url), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(_CREATE)
        with cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
            for row in _rows(rows):
                copy.write_row(row)
        cursor.execute(_INDEX)
        cursor.execute(f"VACUUM ANALYZE {TABLE}")


def _fill_mariadb(url: sa.URL, rows: int) -> None:
    import pymysql

    source = _rows(rows)
    with closing(pymysql.connect(**pymysql_options(url))) as connection, connection.cursor() as cursor:
        cursor.execute(_CREATE)
        while chunk := list(islice(source, _ROWS_A_WRITE)):
            cursor.executemany(f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s)", chunk)
            connection.commit()
        cursor.execute(_INDEX)
        cursor.execute(f"ANALYZE TABLE {TABLE}")


def psycopg_url(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def pymysql_options(url: sa.URL) -> dict[str, Any]:
    return {"host": url.host, "port": url.port, "user": url.username, "database": url.database, "charset": "utf8mb4"}


def _version(url: sa.URL) -> str:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect():
        return ".".join(map(str, engine.dialect.server_version_info or ()))
