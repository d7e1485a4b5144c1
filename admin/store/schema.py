"""The database's shape: brought to any of its migrations by Alembic."""

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
from sqlalchemy import Connection

from admin.domain.errors import SchemaOutdated
from admin.store.databases.sqlite import sqlite_path
from admin.store.revision import NEWEST, connected, parsed_url
from admin.store.tables import metadata
from protos.errors import DirectoryUnusable

HEAD = "head"
LONGEST_SECONDS = 3600  # of a migration that another process is waited for


def upgrade(url: str, revision: str = HEAD) -> None:
    """Applies migrations up to the revision; who comes while somebody else does waits for it.

    Raises BadConfiguration for a URL of no use, SchemaOutdated for a database of a newer version, StoreUnavailable.
    """

    def apply(config: Config, found: str | None) -> None:
        if found is not None and found not in _revisions():
            raise SchemaOutdated(current=found, needed=NEWEST)
        command.upgrade(config, revision)

    _migrate(url, apply)


def downgrade(url: str, revision: str) -> None:
    """Takes migrations back; what only the newer ones keep is lost."""
    _migrate(url, lambda config, _: command.downgrade(config, revision))


def drift(url: str) -> list[object]:
    """How the database differs from the tables that the code knows; empty when the migrations are complete."""
    with connected(url) as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def _revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    return config


def _migrate(url: str, apply: Callable[[Config, str | None], None]) -> None:
    """Alone: with the revision that the database is at."""
    with _file_locked(url), connected(url) as connection, _locked(connection):
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
    if parsed_url(url).get_backend_name() != "sqlite" or (path := sqlite_path(url)) is None:
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
