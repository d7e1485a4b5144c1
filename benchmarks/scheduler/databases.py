"""The databases that hold the books: what each costs and how much it holds."""

import importlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from admin.store import schema
from benchmarks.servers import Server, postgresql

_SQLITE_SIZES = """
SELECT coalesce(sum(CASE WHEN kept.type = 'index' THEN 0 ELSE pages.pgsize END), 0),
       coalesce(sum(CASE WHEN kept.type = 'index' THEN pages.pgsize ELSE 0 END), 0)
FROM dbstat AS pages LEFT JOIN sqlite_master AS kept ON kept.name = pages.name
"""
_POSTGRESQL_SIZES = """
SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint, coalesce(sum(pg_indexes_size(oid)), 0)::bigint
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


class Database(Protocol):
    """What an admin keeps its books in."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str:
        """For the admin; "" is its own file."""

    def pids(self) -> Sequence[int]:
        """Of its processes, none where it lives in the admin's."""

    def sizes(self, data: Path) -> tuple[int, int]:
        """Bytes of data and of index, compacted; no admin runs. `data` is the admin's directory."""


@dataclass(frozen=True, slots=True)
class Sqlite:
    name: str = "sqlite"
    url: str = ""

    def pids(self) -> Sequence[int]:
        return ()

    def sizes(self, data: Path) -> tuple[int, int]:
        with closing(sqlite3.connect(data / "admin.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")
            try:
                table, index = connection.execute(_SQLITE_SIZES).fetchone()
            except sqlite3.OperationalError:  # built without dbstat: the whole file
                return (data / "admin.db").stat().st_size, 0
        return table, index


@dataclass(frozen=True, slots=True)
class Postgresql:
    server: Server
    name: str = "postgresql"

    @property
    def url(self) -> str:
        return self.server.url

    def pids(self) -> Sequence[int]:
        return self.server.pids()

    def sizes(self, data: Path) -> tuple[int, int]:
        psycopg = importlib.import_module("psycopg")
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.execute("VACUUM FULL")
            table, index = connection.execute(_POSTGRESQL_SIZES).fetchone()
        return table, index


@contextmanager
def running_database(name: str, directory: Path) -> Iterator[Database]:
    """Empty, of the newest schema, and gone at the end. Raises Skipped where it is not installed."""
    if name == "sqlite":
        yield Sqlite()
        return
    with postgresql(directory / "postgresql") as server:
        schema.upgrade(server.url)
        yield Postgresql(server)
