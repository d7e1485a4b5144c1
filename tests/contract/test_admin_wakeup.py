"""One suite for every Wakeup: rings here, rings there, and what becomes of them while the carrier is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from admin.ports import Bell, Wakeup
from admin.wakeup.local import LocalWakeup
from admin.wakeup.shared import SharedWakeup
from tests.support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.anyio

SECONDS = 10.0  # until a ring that never comes fails a test
QUIET_SECONDS = 0.3  # in which a ring that must not come would have come


@dataclass(frozen=True)
class Installation:
    """Admins that share a carrier, which a test can take away."""

    make: Callable[[str], SharedWakeup]
    leave: Callable[[], None]
    come_back: Callable[[], None]


@pytest.fixture(params=["redis", "postgresql"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    if request.param == "redis":
        redis = pytest.importorskip("admin.wakeup.redis", reason="needs the package redis", exc_type=ImportError)
        with running_redis(tmp_path) as server:
            yield Installation(lambda name: redis.RedisWakeup(server.url, name), server.kill, server.start)
    else:
        from admin.wakeup.postgresql import PostgresWakeup

        url = request.getfixturevalue("postgresql_url")
        with ExitStack() as stack:
            leave, come_back = stack.enter_context(_gate(request.getfixturevalue("postgresql_server"), url))
            yield Installation(lambda name: PostgresWakeup(url, name), leave, come_back)


@contextmanager
def _gate(server: str, url: str) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Closes one database to everybody, and opens it again."""
    engine = sa.create_engine(server, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    name = sa.make_url(url).database

    def set_open(is_open: bool) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {is_open}")
            if not is_open:
                end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                connection.execute(sa.text(end), {"name": name})

    yield lambda: set_open(False), lambda: set_open(True)


@asynccontextmanager
async def running(*wakeups: SharedWakeup) -> AsyncIterator[None]:
    """All connected. One that connects rings its own bells: there may be something to do."""
    tasks: list[asyncio.Task[None]] = []
    try:
        for wakeup in wakeups:
            with wakeup.listen("planner") as planner, wakeup.listen("dispatcher") as dispatcher:
                tasks.append(asyncio.create_task(wakeup.run()))
                assert await planner.wait(SECONDS)
                assert await dispatcher.wait(SECONDS)
        yield
    finally:
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def heard(bell: Bell) -> bool:
    return await bell.wait(QUIET_SECONDS)


@pytest.fixture(params=["local", "redis", "postgresql"])
def alone(request: pytest.FixtureRequest) -> Wakeup:
    """One that is not connected to anything."""
    if request.param == "local":
        return LocalWakeup()
    if request.param == "redis":
        redis = pytest.importorskip("admin.wakeup.redis", reason="needs the package redis", exc_type=ImportError)
        return redis.RedisWakeup("redis://127.0.0.1:1/0", "shardcast")  # type: ignore[no-any-return]
    from admin.wakeup.postgresql import PostgresWakeup

    return PostgresWakeup("postgresql+psycopg://me@127.0.0.1:1/db", "shardcast")


async def test_a_ring_is_heard_by_every_listener_of_its_bell(alone: Wakeup) -> None:
    with alone.listen("planner") as one, alone.listen("planner") as two, alone.listen("run/1") as other:
        alone.ring("planner")
        assert [await bell.wait(0.01) for bell in (one, two, other)] == [True, True, False]
        assert not await one.wait(0.01)


async def test_a_ring_before_the_wait_is_not_missed_and_many_are_one(alone: Wakeup) -> None:
    with alone.listen("run/1") as bell:
        for _ in range(100_000):
            alone.ring("run/1")
            alone.ring("dispatcher")
        assert await bell.wait(0)
        assert not await bell.wait(0.01)
    alone.ring("run/1")


async def test_a_ring_is_heard_in_every_admin(installation: Installation) -> None:
    here, there, elsewhere = (installation.make("one") for _ in range(3))
    async with running(here, there, elsewhere):
        for bell in ("planner", "dispatcher"):
            with there.listen(bell) as one, elsewhere.listen(bell) as two, here.listen(bell) as own:
                here.ring(bell)
                assert await own.wait(0)
                assert await one.wait(SECONDS)
                assert await two.wait(SECONDS)


async def test_a_ring_is_not_echoed_and_bells_of_runs_stay_at_home(installation: Installation) -> None:
    here, there = installation.make("one"), installation.make("one")
    async with running(here, there):
        with here.listen("planner") as own, there.listen("run/1") as far, there.listen("planner") as theirs:
            here.ring("run/1")
            here.ring("planner")
            assert await own.wait(0)
            assert await theirs.wait(SECONDS)
            assert not await heard(own)
            assert not await heard(far)


async def test_installations_do_not_hear_each_other(installation: Installation) -> None:
    here, there = installation.make("one"), installation.make("two")
    async with running(here, there):
        with there.listen("planner") as far:
            here.ring("planner")
            assert not await heard(far)


async def test_rings_travel_again_once_the_carrier_is_back(installation: Installation) -> None:
    here, there = installation.make("one"), installation.make("one")
    with structlog.testing.capture_logs() as logs:
        async with running(here, there):
            installation.leave()
            with here.listen("planner") as own, there.listen("dispatcher") as far:
                for _ in range(1_000):
                    here.ring("planner")
                assert await own.wait(0)
                while not [log for log in logs if log["action"] == "wakeup_not_shared"]:
                    here.ring("planner")
                    await asyncio.sleep(0.01)
                installation.come_back()
                assert await far.wait(SECONDS)  # it is connected, and looks what it has missed
                await _until_heard(here, there)
    away = [log for log in logs if log["action"] == "wakeup_not_shared"]
    assert 1 <= len(away) <= 2
    assert all(log["error"] for log in away)


async def _until_heard(here: SharedWakeup, there: SharedWakeup) -> None:
    with there.listen("planner") as far:
        async with asyncio.timeout(SECONDS):
            while not await far.wait(0.05):
                here.ring("planner")


async def test_a_carrier_that_falls_silent_is_left(tmp_path: Path) -> None:
    redis = pytest.importorskip("admin.wakeup.redis", reason="needs the package redis", exc_type=ImportError)
    with running_redis(tmp_path) as server:
        wakeup = SharedWakeup(redis.RedisCarrier(server.url, "wakeup"), silent_seconds=0.2)
        with structlog.testing.capture_logs() as logs:
            async with running(wakeup):
                await _until_silence_is_told(server, logs)
                server.thaw()
                with wakeup.listen("planner") as bell:
                    assert await bell.wait(SECONDS)


async def _until_silence_is_told(server: RedisServer, logs: list[structlog.typing.EventDict]) -> None:
    server.freeze()
    async with asyncio.timeout(SECONDS):
        while not [log for log in logs if log["action"] == "wakeup_not_shared"]:
            await asyncio.sleep(0.01)
