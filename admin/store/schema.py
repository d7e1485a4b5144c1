"""The database's shape: brought to any of its migrations by Alembic."""

from collections.abc import Callable
from importlib.resources import files

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from admin.domain.errors import SchemaOutdated
from admin.store.revision import NEWEST, connected, current
from admin.store.tables import metadata

HEAD = "head"


def upgrade(url: str, revision: str = HEAD) -> None:
    """Applies migrations up to the revision.

    Raises BadConfiguration for a URL of no use, SchemaOutdated for a database of a newer version, StoreUnavailable.
    """
    found = current(url)
    if found is not None and found not in _revisions():
        raise SchemaOutdated(current=found, needed=NEWEST)
    _with_config(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Takes migrations back; what only the newer ones keep is lost."""
    _with_config(url, lambda config: command.downgrade(config, revision))


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


def _with_config(url: str, apply: Callable[[Config], None]) -> None:
    with connected(url) as connection:
        config = _config()
        config.attributes["connection"] = connection
        apply(config)
