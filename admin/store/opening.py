"""The database that a URL names: brought up to date, locked where only one admin may use it, opened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from filelock import FileLock, Timeout
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from admin.domain.errors import DatabaseInUse, SchemaOutdated
from admin.store import revision
from admin.store.databases.database import Database
from admin.store.databases.server import FROZEN, ServerDatabase
from admin.store.databases.sqlite import SqliteDatabase, sqlite_path
from protos.errors import BadConfiguration, DirectoryUnusable

SERVERS = ("postgresql", "mysql", "mariadb")


@contextmanager
def opened(
    url: str, clock: Callable[[], datetime], *, is_embedded: bool, frozen: timedelta = FROZEN
) -> Iterator[Database]:
    """A database of this admin's own is migrated; any other is the operator's, and only checked. On a server what a
    frozen admin has locked is free again behind `frozen`.

    Raises BadConfiguration, DatabaseInUse, DirectoryUnusable, StoreUnavailable.
    """
    if is_shared(url):
        _check(url)
        database: Database = ServerDatabase(url, min(frozen, FROZEN))
        try:
            yield database
        finally:
            database.close()
        return
    with _locked(url):
        if is_embedded and revision.current(url) != revision.NEWEST:
            from admin.store import schema

            _outdated_told(lambda: schema.upgrade(url))
        _check(url)
        database = SqliteDatabase(url, clock)
        try:
            yield database
        finally:
            database.close()


def is_shared(url: str) -> bool:
    """Whether several admins can use it at once. Raises BadConfiguration."""
    try:
        backend = make_url(url).get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error
    if backend not in (*SERVERS, "sqlite"):
        raise BadConfiguration(faults=f"database.url: {backend} is not supported; use SQLite, PostgreSQL or MariaDB")
    return backend != "sqlite"


def _check(url: str) -> None:
    _outdated_told(lambda: revision.check(url))


def _outdated_told(work: Callable[[], None]) -> None:
    try:
        work()
    except SchemaOutdated as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error


@contextmanager
def _locked(url: str) -> Iterator[None]:
    """Nobody else has the file, wherever its data directory is and however the path to it is written."""
    if (path := sqlite_path(url)) is None:
        raise BadConfiguration(faults="database.url: SQLite needs a file, as in sqlite:////var/lib/shardcast/admin.db")
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise DatabaseInUse(path=path) from error
    except OSError as error:
        raise DirectoryUnusable(path=path.parent, reason=error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()
