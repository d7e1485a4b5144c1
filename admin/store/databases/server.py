"""A database server that several admins share: a thread and a connection for each transaction, its clock for all."""

import asyncio
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from admin.domain.errors import AdminStopping
from admin.store.databases.database import Work, renamed

T = TypeVar("T")

WRITERS = 6
READERS = 4
RECYCLE_SECONDS = 45
TRIES = 8
PAUSE_SECONDS = 0.01  # behind the first try in vain, on average; behind each further one twice as long
FROZEN = timedelta(seconds=10)
"""A transaction whose admin was stopped in its middle is given up behind this time, and so is waiting for one."""

CONNECT_SECONDS = 5
SILENT_SECONDS = 30  # a server that says nothing for so long, or a cable that was cut, is given up


_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)
_NOW = {
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    "mysql": "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
}
_GAVE_UP = frozenset({"40001", "40P01", "55P03", 1205, 1213})
"""SQLSTATEs of PostgreSQL and numbers of MariaDB for a deadlock, or a lock that was waited for too long."""

_REFUSALS = frozenset({1044, 1045, 1049, 1698})
"""Numbers of MariaDB and MySQL for a user, a password or a database that there is not."""

_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|(role|database) .* does not exist"
)
"""So PostgreSQL says it; the driver tells no SQLSTATE while it connects."""


class ServerDatabase:
    """Implements Database over PostgreSQL, MariaDB and MySQL 8."""

    def __init__(self, url: str, frozen: timedelta = FROZEN) -> None:
        self._engine = server_engine(url, pool_size=WRITERS + READERS, frozen=frozen, silent_seconds=SILENT_SECONDS)
        self._now = _NOW[self._engine.dialect.name.replace("mariadb", "mysql")]
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

    async def write(self, work: Work[T]) -> T:
        return await self._hop(self._writers, self._write, work)

    async def read(self, work: Work[T]) -> T:
        return await self._hop(self._readers, self._read, work)

    def now(self, connection: Connection) -> datetime:
        return _EPOCH + int(connection.exec_driver_sql(self._now).scalar_one()) * _MS

    def close(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

    async def _hop(self, threads: ThreadPoolExecutor, run: Callable[[Work[T]], T], work: Work[T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, run, work)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise AdminStopping from error
            raise

    def _write(self, work: Work[T]) -> T:
        with renamed():
            for number in range(TRIES - 1):
                try:
                    return self._once(work)
                except _GivenUp:
                    time.sleep(PAUSE_SECONDS * 2**number * random.uniform(0.5, 1.5))
            try:
                return self._once(work)
            except _GivenUp as error:
                raise error.reason from None

    def _once(self, work: Work[T]) -> T:
        """Raises _GivenUp where nothing has changed and the work may be done anew. Whether a commit without an answer
        came about is not known, so that this is not for a connection that is lost in one.
        """
        with self._engine.connect() as connection:
            try:
                result = work(connection)
            except DBAPIError as error:
                if error.connection_invalidated or _is_given_up(error):
                    raise _GivenUp(error) from error
                raise
            try:
                connection.commit()
            except DBAPIError as error:
                if _is_given_up(error):
                    raise _GivenUp(error) from error
                raise
            return result

    def _read(self, work: Work[T]) -> T:
        with renamed():
            try:
                return self._look(work)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return self._look(work)

    def _look(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)


class _GivenUp(Exception):
    """The transaction is undone."""

    def __init__(self, reason: DBAPIError) -> None:
        super().__init__()
        self.reason = reason


def server_engine(url: str, *, pool_size: int, frozen: timedelta = FROZEN, silent_seconds: int | None = None) -> Engine:
    """Every statement sees what was committed before it; row locks, not snapshots, keep true what is decided. A
    statement may take as long as it likes unless `silent_seconds` says how long the server may be silent.
    """
    is_postgresql = make_url(url).get_backend_name() == "postgresql"
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_recycle=RECYCLE_SECONDS,
        isolation_level="READ COMMITTED",
        connect_args=_patience(url, is_postgresql, silent_seconds),
    )
    prepare = _prepare_postgresql if is_postgresql else _prepare_mysql

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        prepare(cursor, max(1, math.ceil(frozen.total_seconds())))
        cursor.close()
        connection.commit()

    return engine


def _patience(url: str, is_postgresql: bool, silent_seconds: int | None) -> Mapping[str, int]:
    """What the URL says about it goes before."""
    known = {"connect_timeout": CONNECT_SECONDS}
    if is_postgresql:
        known |= {"keepalives_idle": CONNECT_SECONDS, "tcp_user_timeout": SILENT_SECONDS * 1000}
    elif silent_seconds is not None:
        known |= {"read_timeout": silent_seconds, "write_timeout": silent_seconds}
    return {name: value for name, value in known.items() if name not in make_url(url).query}


def _prepare_postgresql(cursor: DBAPICursor, frozen_seconds: int) -> None:
    for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
        cursor.execute(f"SET {name} = '{frozen_seconds}s'")


def _prepare_mysql(cursor: DBAPICursor, frozen_seconds: int) -> None:
    """MySQL knows no limit for a transaction that idles, only for a connection."""
    cursor.execute("SELECT VERSION()")
    (version,) = cursor.fetchone() or ("",)
    limit = "idle_transaction_timeout" if "MariaDB" in version else "wait_timeout"
    cursor.execute("SET SESSION time_zone = '+00:00'")
    cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {frozen_seconds}")
    cursor.execute(f"SET SESSION {limit} = {frozen_seconds if 'MariaDB' in version else 2 * RECYCLE_SECONDS}")


def is_refusal(error: DBAPIError) -> bool:
    """Whether the server answered a call to connect, and trying again would be of no use."""
    arguments = error.orig.args if error.orig else ()
    return bool(arguments) and (arguments[0] in _REFUSALS or _REFUSED.search(str(arguments[0])) is not None)


def _is_given_up(error: DBAPIError) -> bool:
    """By SQLSTATE or number: PyMySQL knows both, and the former says nothing of a lock that was waited for too long."""
    number = error.orig.args[0] if error.orig and error.orig.args else None
    return not _GAVE_UP.isdisjoint((getattr(error.orig, "sqlstate", None), number))
