"""What all floors of the tests share."""

from collections.abc import AsyncIterator

import pytest

pytest_plugins = ["tests.support.admin_databases", "tests.support.admin_stores", "tests.support.limit_stores"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps one event loop for the session: grpc's completion queue is one for the process, and what it still has for a
    loop that is closed would come up in another test."""
    yield  # a generator: only then is the loop kept until the session ends


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("anyio"):
            item.fixturenames.insert(0, "one_loop")
