"""POST /promotions, with ten users in the table and with all of them: it must not matter."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.marketing import NAME
from benchmarks.marketing.table import filled
from examples.marketing.scenarios.pushing import order
from examples.marketing.scenarios.running import World, staged
from examples.marketing.store.database import Database
from examples.marketing.store.tables import promotions
from shardcast.demo.scenarios import Stage

FEW = 10
_FAR = "2099-01-01T00:00:00Z"


def saves(database: str, url: str, users: int, calls: int) -> Iterator[Figure]:
    """p50 and p99 in milliseconds of calls one after the other; the promotions are to be sent in the far future."""
    with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as name:
        directory = Path(name)
        with filled(database, FEW, directory) as other:
            few = asyncio.run(_timed(other, FEW, directory, calls))
            many = asyncio.run(_timed(url, users, directory, calls))
    for case, share in (("p50", 0.5), ("p99", 0.99)):
        at_few, at_many = (1000 * sorted(each)[int(share * (len(each) - 1))] for each in (few, many))
        settings = {"calls": calls, "database": database, "users": users}
        yield Figure(NAME, f"save {case} {database}", at_many, "ms", None, {f"{FEW} users": at_few}, settings)


async def _timed(url: str, users: int, directory: Path, calls: int) -> list[float]:
    stage = Stage(users, directory / str(users), 1, 0, 0, None, is_chaotic=False, show=lambda *_: None)
    stage.data.mkdir()
    async with staged(stage, url) as world:
        seconds = [await _once(world) for _ in range(calls)]
    with closing(Database(url)) as database, database.writing() as connection:
        connection.execute(promotions.delete())
    return seconds


async def _once(world: World) -> float:
    body = order("platform_promotion") | {"ends_at": _FAR}
    began = time.perf_counter()
    await world.ask("POST", "/promotions", body)
    return time.perf_counter() - began
