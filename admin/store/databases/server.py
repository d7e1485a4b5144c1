"""A database server that several admins share: a thread and a connection for each transaction, its clock for all."""

import asyncio
from collections.abc import Callable
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
FROZEN_SECONDS = 10  # a transaction whose admin was stopped in its middle is given up behind this time

_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)
_NOW = {
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    "mysql": "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
}
_GAVE_UP = frozenset({"40001", "40P01", "55P03", 1205, 1213})
"""SQLSTATEs of PostgreSQL and numbers of MariaDB for a deadlock, or a lock that was waited for too long."""


class ServerDatabase:
    """Implements Database over PostgreSQL, MariaDB and MySQL 8."""

    def __init__(self, url: str) -> None:
        self._engine = server_engine(url, pool_size=WRITERS + READERS)
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
            for _ in range(TRIES - 1):
                try:
                    return self._once(work)
                except DBAPIError as error:
                    if not _is_given_up(error):
                        raise
            return self._once(work)

    def _once(self, work: Work[T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _read(self, work: Work[T]) -> T:
        with renamed(), self._engine.connect() as connection:
            return work(connection)


def server_engine(url: str, *, pool_size: int) -> Engine:
    """Every statement sees what was committed before it; row locks, not snapshots, keep true what is decided."""
    engine = create_engine(
        url, pool_size=pool_size, max_overflow=0, pool_recycle=RECYCLE_SECONDS, isolation_level="READ COMMITTED"
    )
    prepare = _prepare_postgresql if make_url(url).get_backend_name() == "postgresql" else _prepare_mysql

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        prepare(cursor)
        cursor.close()
        connection.commit()

    return engine


def _prepare_postgresql(cursor: DBAPICursor) -> None:
    for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
        cursor.execute(f"SET {name} = '{FROZEN_SECONDS}s'")


def _prepare_mysql(cursor: DBAPICursor) -> None:
    """MySQL knows no limit for a transaction that idles, only for a connection."""
    cursor.execute("SELECT VERSION()")
    (version,) = cursor.fetchone() or ("",)
    limit = "idle_transaction_timeout" if "MariaDB" in version else "wait_timeout"
    cursor.execute("SET SESSION time_zone = '+00:00'")
    cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {FROZEN_SECONDS}")
    cursor.execute(f"SET SESSION {limit} = {FROZEN_SECONDS if 'MariaDB' in version else 2 * RECYCLE_SECONDS}")


def _is_given_up(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or (error.orig.args[0] if error.orig and error.orig.args else None)
    return state in _GAVE_UP
