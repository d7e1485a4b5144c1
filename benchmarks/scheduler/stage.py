"""What a case plays on: a fresh database, an admin, an executor, and the API; and how its figures say so."""

import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import cpu_seconds
from benchmarks.scheduler.api import GROUP, SPREAD, Api, calling
from benchmarks.scheduler.daemons import Admin, Executor, running_admin, running_executor
from benchmarks.scheduler.databases import Database, running_database
from benchmarks.scheduler.ledger import SLOTS

NAME = "scheduler"


@dataclass(frozen=True, slots=True)
class Options:
    """How much of each case."""

    rates: Sequence[int] = (1_000, 2_500, 5_000, 6_000)
    late_rates: Sequence[int] = (1_000, 2_500)
    seconds: int = 10  # that are measured
    warm_up: int = 3
    drain: int = 15  # for what is late at the end
    burst: int = 5_000
    calls: int = 300
    history: int = 10_000
    registered: int = 100_000


@dataclass(frozen=True, slots=True)
class Stage:
    directory: Path
    database: Database
    admin: Admin
    executor: Executor
    api: Api

    def cpu(self) -> Mapping[str, float]:
        """Seconds of each kind of process."""
        return {
            "admin": cpu_seconds([self.admin.pid]),
            "executor": cpu_seconds([self.executor.pid]),
            "database": cpu_seconds(self.database.pids()),
        }


@asynccontextmanager
async def stage(database: str = "sqlite") -> AsyncIterator[Stage]:
    """Raises Skipped where it cannot be set up."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardcast-bench-")))
        books = stack.enter_context(running_database(database, directory))
        admin = await stack.enter_async_context(running_admin(directory / "admin", books.url))
        executor = await stack.enter_async_context(running_executor(admin, directory / "samples", GROUP))
        api = await stack.enter_async_context(calling(admin))
        yield Stage(directory, books, admin, executor, api)


def figure(
    case: str, value: float, unit: str, settings: Mapping[str, object] | None = None, floor: float | None = None
) -> Figure:
    """With the settings that all cases share behind those of the case."""
    return Figure(NAME, case, value, unit, floor, settings={**(settings or {}), **_SHARED})


def say(line: str) -> None:
    """Progress, beside the figures."""
    print(line, file=sys.stderr, flush=True)


_SHARED: Mapping[str, object] = {
    "triggers": SPREAD,
    "executor": f"one, {SLOTS:,} slots, answers at once",
    "cores": os.cpu_count(),
    "machine": platform.machine(),
    "python": platform.python_version(),
}
