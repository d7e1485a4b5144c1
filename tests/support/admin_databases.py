"""Databases for the admin: each server is started once a test process, when first wanted; each test gets a database of
its own, fresh and empty."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.mariadb import running_mariadb
from tests.support.postgresql import running_postgresql

MYSQL_VARIABLE = "SHARDCAST_TEST_MYSQL"
"""Names the SQLAlchemy URL of a database of a MySQL 8 whose user may create databases."""

SERVERS = ("postgresql", "mariadb", "mysql")
KINDS = ("sqlite", *SERVERS)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Not below pytest's own directory: that is shut to the server's user whenever another pytest begins."""
    with (
        tempfile.TemporaryDirectory(prefix="shardcast-", ignore_cleanup_errors=True) as directory,
        running_postgresql(Path(directory) / "postgresql", is_durable=False) as url,
    ):
        yield url


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mariadb(tmp_path_factory.mktemp("mariadb"), is_durable=False) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_server() -> str:
    url = os.environ.get(MYSQL_VARIABLE)
    if not url:
        pytest.skip(f"needs a MySQL 8 that {MYSQL_VARIABLE} names")
    return url


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    with fresh_database(postgresql_server) as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: str) -> Iterator[str]:
    with fresh_database(mariadb_server) as url:
        yield url


@pytest.fixture(params=KINDS)
def admin_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of every kind that the admin knows."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'admin.db'}"
    else:
        with fresh_database(request.getfixturevalue(f"{request.param}_server")) as url:
            yield url


@pytest.fixture(params=SERVERS)
def shared_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database, of every kind that several admins may share."""
    with fresh_database(request.getfixturevalue(f"{request.param}_server")) as url:
        yield url


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of a database beside the one that `server` names; dropped afterwards, whoever still uses it."""
    url = sa.make_url(server)
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    name = f"test_{uuid.uuid4().hex[:16]}"
    is_mysql = url.get_backend_name() == "mysql"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if is_mysql else ""))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            if is_mysql:
                _part(connection, name)
            connection.exec_driver_sql(f"DROP DATABASE {name}" + ("" if is_mysql else " WITH (FORCE)"))


def end_connections(url: str) -> None:
    """All that there are to the database of the URL, in the middle of whatever they do."""
    parsed = sa.make_url(url)
    is_mysql = parsed.get_backend_name() == "mysql"
    elsewhere = parsed.set(database="information_schema" if is_mysql else "postgres")
    engine = sa.create_engine(elsewhere, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if is_mysql:
            _part(connection, str(parsed.database))
        else:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(sa.text(end), {"name": parsed.database})


def _part(connection: sa.Connection, name: str) -> None:
    """Ends the connections to a database; what they hold would keep it from being dropped."""
    users = connection.execute(
        sa.text("SELECT id FROM information_schema.processlist WHERE db = :name"), {"name": name}
    )
    for user in users.scalars().all():
        try:
            connection.exec_driver_sql(f"KILL {int(user)}")
        except sa.exc.DBAPIError:  # it has gone by itself
            continue
