"""Engines for limits: those that are made from a URL, and those that users have already."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection, IsolationLevel
from sqlalchemy.pool import ConnectionPoolEntry

from executor.errors import BadLimits

Engine = sa.Engine

WAIT_SECONDS = 10  # for a row that another process has locked, or for a server that says nothing

_LEVELS: Mapping[str, IsolationLevel] = {
    "sqlite": "AUTOCOMMIT",  # its driver would begin too late by itself
    "postgresql": "READ COMMITTED",
    "mysql": "READ COMMITTED",  # no locks on what is not there
}
_PATIENCE: Mapping[str, Mapping[str, object]] = {
    "sqlite": {"timeout": WAIT_SECONDS},
    "postgresql": {
        "connect_timeout": WAIT_SECONDS,
        "options": f"-c lock_timeout={WAIT_SECONDS}s -c idle_in_transaction_session_timeout={WAIT_SECONDS}s",
    },
    "mysql": {
        "connect_timeout": WAIT_SECONDS,
        "read_timeout": 2 * WAIT_SECONDS,
        "init_command": f"SET SESSION innodb_lock_wait_timeout = {WAIT_SECONDS}",
    },
}
"""A process that is stopped in the middle of a transaction shall not stop all others."""


def dialect_of(name: str) -> str:
    return name.replace("mariadb", "mysql")


def opened(url: str) -> Engine:
    """What the URL says goes before what is usual here. Raises BadLimits."""
    try:
        parsed = sa.make_url(url)
        dialect = dialect_of(parsed.get_backend_name())
        patience = {name: value for name, value in _PATIENCE.get(dialect, {}).items() if name not in parsed.query}
        engine = sa.create_engine(parsed, connect_args=patience, isolation_level=_LEVELS.get(dialect, "SERIALIZABLE"))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise BadLimits(store=url.partition(":")[0], reason=str(error)) from error
    except ModuleNotFoundError as error:
        raise BadLimits(store=url.partition(":")[0], reason=f"it needs the package {error.name}") from error
    if dialect == "sqlite":
        sa.event.listen(engine, "connect", _write_ahead)
    return engine


def adopted(engine: Engine) -> Engine:
    """A user's engine, whose other users see no difference."""
    dialect = dialect_of(engine.dialect.name)
    if dialect not in _LEVELS or dialect == "mysql":
        return engine
    return engine.execution_options(isolation_level=_LEVELS[dialect])


def beginning(dialect: str, is_own: bool) -> str:
    """The statement that begins a transaction, "" where the driver does it. MySQL's driver would ask the server for the
    level at each checkout, and a connection that was cut would end that with an error of its own kind.
    """
    if dialect == "sqlite":
        return "BEGIN IMMEDIATE"
    return "SET TRANSACTION ISOLATION LEVEL READ COMMITTED" if dialect == "mysql" and not is_own else ""


def _write_ahead(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """One fsync for a commit instead of several; readers do not wait."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
