"""The database's shape: which migration it is at, and bringing it to the newest one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from admin.domain.errors import SchemaOutdated
from admin.store.databases.database import renamed
from admin.store.databases.server import server_engine
from admin.store.databases.sqlite import sqlite_engine
from admin.store.tables import metadata
from protos.errors import BadConfiguration

HEAD = "head"


def upgrade(url: str, revision: str = HEAD) -> None:
    """Applies migrations up to the revision.

    Raises BadConfiguration for a URL of no use, SchemaOutdated for a database of a newer version, StoreUnavailable.
    """
    found = current(url)
    if found is not None and found not in _revisions():
        raise SchemaOutdated(current=found, needed=head())
    _with_config(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Takes migrations back; what only the newer ones keep is lost."""
    _with_config(url, lambda config: command.downgrade(config, revision))


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


def _with_config(url: str, apply: Callable[[Config], None]) -> None:
    with _connected(url) as connection:
        config = _config()
        config.attributes["connection"] = connection
        apply(config)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """A connection in a transaction, with errors given our names."""
    engine = _engine(url)
    try:
        with renamed(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return server_engine(url, pool_size=1)
    except ImportError as error:
        hint = "shardcast[postgresql] brings the driver of postgresql://, shardcast[mysql] that of mysql+pymysql://"
        raise BadConfiguration(faults=f"database.url: {error}; {hint}") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return sqlite_engine(url, begin="BEGIN IMMEDIATE")
