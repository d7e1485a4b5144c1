"""SQLite: one writer thread and a few readers; a whole transaction hops to a thread and back, never a statement."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from admin.domain.errors import AdminStopping, StoreUnavailable
from admin.store.databases.checkpoints import Checkpoints
from admin.store.databases.database import Work, renamed

T = TypeVar("T")

READERS = 4
PRAGMAS = {
    "journal_mode": "WAL",
    "synchronous": "FULL",
    "busy_timeout": 5_000,  # milliseconds
    "cache_size": -32_768,  # KiB; with the default of 2 MiB the indexes of the history are read again and again
    "wal_autocheckpoint": 0,  # pages: see checkpoints.py
}
MOST_AT_ONCE = 256  # writes that share one commit
STATEMENTS = 512  # kept compiled by the driver, of each connection


class SqliteDatabase:
    """Implements Database over a file that this process owns, and the clock that it was given."""

    def __init__(self, url: str, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._write_engine = sqlite_engine(url, begin="BEGIN IMMEDIATE")
        self._read_engine = sqlite_engine(url, begin="BEGIN", pool_size=READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._checkpoints = Checkpoints(Path(self._write_engine.url.database or ""))
        self._writer = _Writer(self._write_engine, self._checkpoints)

    async def write(self, work: Work[T]) -> T:
        """Runs the work alone."""
        return await asyncio.wrap_future(self._writer.submit(work))

    async def read(self, work: Work[T]) -> T:
        """Runs the work on one consistent view."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Work[T]) -> T:
        with renamed(), self._read_engine.connect() as connection:
            return work(connection)

    def now(self, connection: Connection) -> datetime:
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def close(self) -> None:
        self._writer.close()
        self._checkpoints.close()
        self._readers.shutdown()
        self._read_engine.dispose()
        self._write_engine.dispose()


def sqlite_path(url: str) -> Path | None:
    """The file itself, behind symbolic links; None where there is none (":memory:")."""
    database = make_url(url).database or ""
    if database.startswith("file:"):
        database = database.removeprefix("file:").partition("?")[0].replace("//", "/", 1)
    return None if database in ("", ":memory:") else Path(database).resolve()


def sqlite_engine(url: str, *, begin: str, pool_size: int = 1) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, connect_args={"cached_statements": STATEMENTS})

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself, so that savepoints work
        cursor = connection.cursor()
        for name, value in PRAGMAS.items():
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Work[T]
    future: Future[T] = field(default_factory=Future)
    result: T | None = None
    error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        """Alone in its transaction, which its error ends."""
        self.result = self.work(connection)

    def run_beside(self, connection: Connection) -> None:
        """Its error undoes its own changes alone."""
        try:
            with renamed(), connection.begin_nested():
                self.result = self.work(connection)
        except Exception as error:
            self.error = error

    def deliver(self, fault: BaseException | None) -> None:
        error = fault or self.error
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]


def _check_open(connection: Connection) -> None:
    """SQLite may drop a whole transaction for one statement (disk full, I/O error), works that went well included.

    Raises StoreUnavailable.
    """
    driver = connection.connection.driver_connection
    if driver is None or not driver.in_transaction:
        raise StoreUnavailable(reason="it gave up the transaction")


class _Writer:
    """A thread that commits together all that waits: each work in a savepoint of its own, one fsync for all."""

    def __init__(self, engine: Engine, checkpoints: Checkpoints) -> None:
        self._engine = engine
        self._checkpoints = checkpoints
        self._waiting: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    def submit(self, work: Work[T]) -> Future[T]:
        job = _Job(work)
        with self._lock:
            if self._is_closed:
                raise AdminStopping
            self._waiting.put(job)  # type: ignore[arg-type]
        return job.future

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next_batch()
            self._commit([job for job in batch if job.future.set_running_or_notify_cancel()])

    def _next_batch(self) -> tuple[list[_Job[object]], bool]:
        job = self._waiting.get()
        batch: list[_Job[object]] = []
        while job is not None:
            batch.append(job)
            if len(batch) == MOST_AT_ONCE:
                return batch, True
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Job[object]]) -> None:
        fault: Exception | None = None
        try:
            with renamed(), self._engine.begin() as connection:
                for job in batch:
                    (job.run if len(batch) == 1 else job.run_beside)(connection)
                    _check_open(connection)
        except Exception as error:  # told to all that waited; the thread outlives it
            fault = error
        for job in batch:
            job.deliver(fault)
        self._finish_checkpoint()

    def _finish_checkpoint(self) -> None:
        """A failure is seen by the next transaction."""
        with suppress(DBAPIError, sqlite3.Error):
            connection = self._engine.raw_connection()
            try:
                if isinstance(connection.driver_connection, sqlite3.Connection):
                    self._checkpoints.finish(connection.driver_connection)
            finally:
                connection.close()
