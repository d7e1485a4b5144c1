"""One database: transactions that only read, and transactions that write."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError

from examples.marketing.store.tables import metadata
from shardcast import Handled

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 64
"""Of a process: more than its listeners and jobs run side by side, so that none waits for another's."""

_WRITES = "marketing_writes"
AWAY_SECONDS = 1.0
MOST_DEADLOCKS = 10
MOST_LOOKS = 60

P = ParamSpec("P")
T = TypeVar("T")


def patient(listener: Callable[P, T]) -> Callable[P, T | Handled]:
    """The listener, whose messages wait while the database is away: that counts as no attempt of theirs."""

    @wraps(listener)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T | Handled:
        try:
            return listener(*args, **kwargs)
        except OperationalError as error:
            log.warning("listener has to wait", action="listener_waits", error=str(error.orig))
            return Handled(0, after=AWAY_SECONDS)

    return waiting


class Database:
    """A context manager. Scans and limits take its `engine`."""

    def __init__(self, url: str) -> None:
        is_sqlite = make_url(url).get_backend_name() == "sqlite"
        # What waited for a lock sees what was committed meanwhile, on every server as on PostgreSQL.
        options = {} if is_sqlite else {"isolation_level": "READ COMMITTED"}
        self.engine = create_engine(url, pool_pre_ping=True, pool_size=MOST_CONNECTIONS, **options)
        if is_sqlite:
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)

    def create(self) -> None:
        """Makes the tables that are missing. A real shop has migrations."""
        for tries_left in reversed(range(len(metadata.tables))):
            try:
                metadata.create_all(self.engine)
                break
            except DBAPIError as error:  # of two processes at once one finds a table made that it missed
                if error.statement is None or not tries_left:
                    raise

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def apply(self, change: Callable[[Connection], T]) -> T:
        """What `change` gives, in a transaction that writes; done again where the server ended it for others' sake."""
        for _ in range(MOST_DEADLOCKS):
            try:
                with self.writing() as connection:
                    return change(connection)
            except OperationalError as error:
                if not _is_deadlock(error):
                    raise
        with self.writing() as connection:
            return change(connection)

    def settle(self, change: Callable[[Connection], T], find: Callable[[Connection], T | None]) -> T:
        """What `change` gives, in a transaction that writes. Where the answer to its commit is lost, `find` tells what
        it has come to, None: to nothing; it is asked until the database is back, for a minute."""
        is_made = False
        try:
            with self.writing() as connection:
                made, is_made = change(connection), True
        except DBAPIError:
            if not is_made or (found := self._found(find)) is None:
                raise
            return found
        return made

    def _found(self, find: Callable[[Connection], T | None]) -> T | None:
        """Raises OperationalError."""
        for _ in range(MOST_LOOKS):
            try:
                with self.writing() as connection:
                    return find(connection)
            except OperationalError:
                time.sleep(AWAY_SECONDS)
        with self.writing() as connection:
            return find(connection)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Commits at the end of the block, rolls back when it raises."""
        with self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection


def _is_deadlock(error: OperationalError) -> bool:
    """By the state of PostgreSQL, by the number of MariaDB and MySQL, where its savepoints are gone with it (1305)."""
    number = next(iter(getattr(error.orig, "args", ())), None)
    return getattr(error.orig, "sqlstate", None) == "40P01" or number in (1213, 1305)


def _prepare(connection: DBAPIConnection, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy says BEGIN, see below
    cursor = connection.cursor()
    for pragma in ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Who reads first and writes then would be refused where another one wrote in between: writers say so at once."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")
