"""Limits in a database: each call is one transaction that locks its rows, decides, and writes what is new."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import TypeVar

import sqlalchemy as sa

from executor.errors import BadLimits, LimitsUnreachable
from executor.limits.changing import A, ChangingStore, S
from executor.limits.names import microseconds_of
from executor.limits.sql.engines import Engine, adopted, beginning, dialect_of, opened
from executor.limits.sql.tables import BOOKS, METADATA, keep, locked

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

TRIES = 8
PAUSE_SECONDS = 0.005  # behind the first try in vain, on average; behind each further one twice as long
PRUNE_EVERY = 1_000  # rows written by this process
PRUNED_ROWS = 2_000  # at most, of a table, at a time: more than come in between

_NOW = {
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)",
}
_CONFLICTS = frozenset({"40001", "40P01", 1020, 1213})
"""SQLSTATEs of PostgreSQL and numbers of MariaDB for transactions that got in each other's way."""

_ONE_AT_A_TIME = {
    "postgresql": ("SELECT pg_advisory_xact_lock(hashtext('shardcast_limits'))",),
    "mysql": ("SELECT GET_LOCK('shardcast_limits', 60)", "SELECT RELEASE_LOCK('shardcast_limits')"),
}
"""Around the making of tables, which servers do not do one after the other by themselves."""


class SqlStore(ChangingStore):
    """Implements Store; on SQLite `now` rules, on PostgreSQL, MariaDB and MySQL the server's clock."""

    def __init__(self, store: str | Engine, now: Callable[[], datetime], chance: Callable[[], float]) -> None:
        """Raises BadLimits; connects at the first call."""
        self._is_own = isinstance(store, str)
        engine = adopted(store) if isinstance(store, Engine) else opened(store)
        self._shown = engine.url.render_as_string(hide_password=True)
        self._dialect = dialect_of(engine.dialect.name)
        self._is_sqlite = self._dialect == "sqlite"
        if not self._is_sqlite and self._dialect not in _NOW:
            raise BadLimits(store=self._shown, reason="it is neither SQLite, PostgreSQL, MariaDB, MySQL nor Redis")
        if self._is_sqlite and (engine.url.database in (None, "", ":memory:") or "mode=memory" in str(engine.url)):
            raise BadLimits(store=self._shown, reason="SQLite in memory has no file to share; memory:// is for that")
        self._engine = engine
        self._begin = beginning(self._dialect, self._is_own)
        self._clock = now
        self._chance = chance
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._unpruned = PRUNE_EVERY  # processes that live too briefly to write so many prune too

    def change(
        self, kind: type[S], names: Iterable[str], decide: Callable[[str, S | None, int], tuple[A, S | None]]
    ) -> Mapping[str, A]:
        ordered = sorted(names)  # all lock in this order
        self._prepare()
        answers, written = self._transact(lambda connection: self._changed(connection, kind, ordered, decide))
        self._unpruned += written
        if written and self._unpruned >= PRUNE_EVERY:
            self._unpruned = 0
            with suppress(LimitsUnreachable):  # what was asked for is done; the next one prunes
                self._transact(self._pruned)
        return answers

    def close(self) -> None:
        """Closes connections that it made itself."""
        if self._is_own:
            self._engine.dispose()

    def _changed(
        self,
        connection: sa.Connection,
        kind: type[S],
        names: Sequence[str],
        decide: Callable[[str, S | None, int], tuple[A, S | None]],
    ) -> tuple[Mapping[str, A], int]:
        table = BOOKS[kind]
        known = {row[0]: kind(*row[1:]) for row in connection.execute(locked(table, names, self._dialect)).all()}
        now = self._now(connection)
        answers: dict[str, A] = {}
        added: list[Sequence[str | int]] = []
        changed: list[Sequence[str | int]] = []
        columns: Callable[[object], tuple[str | int, ...]] = attrgetter(*table.c.keys()[1:])
        for name in names:
            old = known.get(name)
            new: S | None
            answers[name], new = decide(name, old if old and old.expires_at_us > now else None, now)
            if new is not None:
                (added if old is None else changed).append((name, *columns(new)))
        if changed:
            keep(connection, table, changed, are_new=False)
        if added:  # fails where another one was quicker, and is decided anew
            keep(connection, table, added, are_new=True)
        return answers, len(added) + len(changed)

    def _now(self, connection: sa.Connection) -> int:
        if self._is_sqlite:
            return microseconds_of(self._clock())
        return int(connection.exec_driver_sql(_NOW[self._dialect]).scalar_one())

    def _pruned(self, connection: sa.Connection) -> None:
        now = self._now(connection)
        for table in BOOKS.values():
            is_over = table.c.expires_at_us <= now
            old = sa.select(table.c.name).where(is_over).limit(PRUNED_ROWS).with_for_update(skip_locked=True)
            names = connection.execute(old).scalars().all()
            if names:
                connection.execute(sa.delete(table).where(table.c.name.in_(names), is_over))

    def _prepare(self) -> None:
        with self._preparing:
            if not self._is_prepared:
                self._transact(self._make_tables)
                self._is_prepared = True

    def _make_tables(self, connection: sa.Connection) -> None:
        begin, *end = _ONE_AT_A_TIME.get(self._dialect, ("SELECT 1",))
        connection.exec_driver_sql(begin)
        try:
            METADATA.create_all(connection)
        finally:  # the lock belongs to the connection, and that lives on in the pool
            for statement in end:
                connection.exec_driver_sql(statement)

    def _transact(self, work: Work[T]) -> T:
        try:
            for number in range(TRIES - 1):
                try:
                    return self._once(work)
                except _UndoneError:
                    time.sleep(PAUSE_SECONDS * 2**number * (0.5 + self._chance()))
            return self._once(work)
        except (sa.exc.SQLAlchemyError, OSError, _UndoneError) as error:
            reason = error.reason if isinstance(error, _UndoneError) else error
            raise LimitsUnreachable(store=self._shown, reason=str(getattr(reason, "orig", None) or reason)) from error

    def _once(self, work: Work[T]) -> T:
        """Raises _UndoneError where nothing has changed and the work may be done anew. Whether a commit without an
        answer came about is not known, so that this is not for a connection that is lost in one.
        """
        try:
            connecting = self._engine.connect()
        except sa.exc.DBAPIError as error:  # SQLite waits for nobody while it turns to its write-ahead log
            if _is_conflict(error):
                raise _UndoneError(error) from error
            raise
        with connecting as connection:
            try:
                if self._begin:
                    connection.exec_driver_sql(self._begin)
                result = work(connection)
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated or isinstance(error, sa.exc.IntegrityError) or _is_conflict(error):
                    raise _UndoneError(error) from error
                raise
            try:
                connection.exec_driver_sql("COMMIT") if self._is_sqlite else connection.commit()
            except sa.exc.DBAPIError as error:
                if _is_conflict(error):
                    raise _UndoneError(error) from error
                raise
            return result


class _UndoneError(Exception):
    """The transaction is undone."""

    def __init__(self, reason: sa.exc.DBAPIError) -> None:
        super().__init__()
        self.reason = reason


def _is_conflict(error: sa.exc.DBAPIError) -> bool:
    """By SQLSTATE or number: PyMySQL knows both, and the former says nothing of some conflicts."""
    if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return True
    number = error.orig.args[0] if error.orig and error.orig.args else None
    return not _CONFLICTS.isdisjoint((getattr(error.orig, "sqlstate", None), number))
