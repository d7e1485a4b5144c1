"""The pytest plugin: fixtures that load nothing before a test asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from executor.testing import LocalRun
    from shardcast.testing.server import TestServer


@pytest.fixture
def shardcast_server() -> Iterator[TestServer]:
    """A TestServer of its own for each test; `shardcast_server.start_executor(app)` lets handlers run on it."""
    from shardcast.testing.server import TestServer

    with TestServer() as server:
        yield server


@pytest.fixture
def shardcast_run() -> Callable[..., LocalRun]:
    """`shardcast.testing.run_local`: runs one handler as a plain function."""
    from executor.testing import run_local

    return run_local
