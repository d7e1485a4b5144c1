"""Which migration a database is at; without Alembic, which takes a fifth of a start and is seldom needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from admin.domain.errors import SchemaOutdated
from admin.store.databases.database import renamed
from admin.store.databases.server import is_refusal, server_engine
from admin.store.databases.sqlite import sqlite_engine, sqlite_path
from protos.errors import BadConfiguration

NEWEST = "20261128_counts"
"""The newest revision in migrations/versions."""


def current(url: str) -> str | None:
    """The revision the database is at, None before the first."""
    with connected(url) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return found


def check(url: str) -> None:
    """Raises SchemaOutdated unless the database is at the newest revision."""
    if (found := current(url)) != NEWEST:
        raise SchemaOutdated(current=found or "none", needed=NEWEST)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection in a transaction, with errors given our names."""
    engine = _engine(url)
    try:
        with renamed(), _connection(engine) as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def _connection(engine: Engine) -> Connection:
    """Raises BadConfiguration where a server is there and lets nobody in who asks like this."""
    try:
        return engine.connect()
    except DBAPIError as error:
        if is_refusal(error):
            raise BadConfiguration(faults=f"database.url: {error.orig}") from error
        raise


def _engine(url: str) -> Engine:
    parsed = parsed_url(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            return server_engine(url, pool_size=1)
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error
    except ImportError as error:
        hint = "shardcast[postgresql] brings postgresql+psycopg, shardcast[mysql] mysql+pymysql and mariadb+pymysql"
        reason = f"the driver of {parsed.drivername} is not installed ({error}); {hint}"
        raise BadConfiguration(faults=f"database.url: {reason}") from error
    if (path := sqlite_path(url)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite_engine(url, begin="BEGIN IMMEDIATE")


def parsed_url(url: str) -> URL:
    """Raises BadConfiguration."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error
