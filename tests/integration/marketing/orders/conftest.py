"""An empty shop on each database that the system runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.marketing.shop import Shop
from tests.support.admin_databases import fresh_database
from tests.support.shops import Clock, empty_shop


@pytest.fixture(scope="session")
def postgresql_shop(postgresql_server: str) -> Iterator[str]:
    with fresh_database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_shop(mariadb_server: str) -> Iterator[str]:
    with fresh_database(mariadb_server) as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Shop]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue(f"{request.param}_shop")
    with empty_shop(url, clock) as shop:
        yield shop


@pytest.fixture
def sqlite_shop(tmp_path: Path, clock: Clock) -> Iterator[Shop]:
    with empty_shop(f"sqlite:///{tmp_path / 'shop.db'}", clock) as shop:
        yield shop
