"""The database's shape: which migration it is at, and bringing it to the newest one."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from admin.domain.errors import SchemaOutdated
from admin.store.databases.database import renamed
from admin.store.databases.server import is_refusal, server_engine
from admin.store.databases.sqlite import sqlite_engine, sqlite_path
from admin.store.tables import metadata
from protos.errors import BadConfiguration, DirectoryUnusable

HEAD = "head"
LONGEST_SECONDS = 3600  # of a migration that another process is waited for


def upgrade(url: str, revision: str = HEAD) -> None:
    """Applies migrations up to the revision; who comes while somebody else does waits for it.

    Raises BadConfiguration for a URL of no use, SchemaOutdated for a database of a newer version, StoreUnavailable.
    """

    def apply(config: Config, found: str | None) -> None:
        if found is not None and found not in _revisions():
            raise SchemaOutdated(current=found, needed=head())
        command.upgrade(config, revision)

    _migrate(url, apply)


def downgrade(url: str, revision: str) -> None:
    """Takes migrations back; what only the newer ones keep is lost."""
    _migrate(url, lambda config, _: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The revision the database is at, None before the first."""
    with _connected(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The newest revision that this version knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def check(url: str) -> None:
    """Raises SchemaOutdated unless the database is at the newest revision."""
    found, needed = current(url), head()
    if found != needed:
        raise SchemaOutdated(current=found or "none", needed=needed)


def drift(url: str) -> list[object]:
    """How the database differs from the tables that the code knows; empty when the migrations are complete."""
    with _connected(url) as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def _revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    return config


def _migrate(url: str, apply: Callable[[Config, str | None], None]) -> None:
    """Alone: with the revision that the database is at."""
    with _file_locked(url), _connected(url) as connection, _locked(connection):
        config = _config()
        config.attributes["connection"] = connection
        apply(config, MigrationContext.configure(connection).get_current_revision())


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """One at a time migrates a database of a server."""
    database = str(connection.engine.url.database)
    key = int.from_bytes(hashlib.sha256(f"shardcast migrates {database}".encode()).digest()[:8], signed=True)
    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")
            connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")
            yield
        case "mysql" | "mariadb":
            connection.exec_driver_sql(f"SELECT GET_LOCK('shardcast {key}', {LONGEST_SECONDS})")
            yield
            connection.exec_driver_sql(f"SELECT RELEASE_LOCK('shardcast {key}')")
        case _:
            yield


@contextmanager
def _file_locked(url: str) -> Iterator[None]:
    """One at a time migrates a file, from before it is opened. An admin that uses it has another lock."""
    if _parsed(url).get_backend_name() != "sqlite" or (path := sqlite_path(url)) is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.migrating.lock")
        lock.acquire()
    except OSError as error:
        raise DirectoryUnusable(path=path.parent, reason=error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
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
    parsed = _parsed(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            return server_engine(url, pool_size=1)
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error
    except ImportError as error:
        drivers = "postgresql+psycopg, mysql+pymysql, mariadb+pymysql"
        reason = f"the driver of {parsed.drivername} is not installed ({error}); known are {drivers}"
        raise BadConfiguration(faults=f"database.url: {reason}") from error
    if (path := sqlite_path(url)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite_engine(url, begin="BEGIN IMMEDIATE")


def _parsed(url: str) -> URL:
    """Raises BadConfiguration."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error
