"""Shards that move between executors: a real admin, a real broker, executors in this process whose links can fail."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from broker.client import Consumer
from broker.client.message import Message
from broker.errors import StaleTerm
from broker.testing import running_broker
from executor import daemon
from executor.app import Executor
from executor.errors import Cancelled
from executor.running.context import Context
from executor.settings import ExecutorSettings
from executor.sharding.hash import shard_of
from shardcast.testing.proxy import Proxy
from tests.support.admin_harness import RunningAdmin, running_admin, until

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 3.0  # all is in one loop, which may be busy
ROWS = 400
BATCH = 10
TOPIC = "copies"


class Copier(Executor):
    """Copies its shards to a topic, so many batches before the test lets it go on; says how that went."""

    def __init__(self, engine: sa.Engine, *, batches: int = 0) -> None:
        super().__init__("copiers")
        self.begun: list[tuple[int, int]] = []  # shard and total
        self.ended: list[int] = []
        self.errors: list[Exception] = []
        self._batches = threading.Semaphore(batches)
        self._engine = engine
        self.job("copy")(self.copy)

    def let_go(self) -> None:
        self._batches.release(10 * ROWS)

    def copy(self, context: Context) -> None:
        self.begun.append((context.shard.index, context.shard.total))
        try:
            with context.publisher(TOPIC) as publisher:
                for users in context.scan(self._engine, "users", batch=BATCH):
                    self._batches.acquire()
                    publisher.publish(
                        [Message(str(context.shard.index).encode(), key=str(user.id)) for user in users],
                        checkpoint=users.cursor,
                    )
                    publisher.flush()
        except Exception as error:
            self.errors.append(error)
            raise
        self.ended.append(context.shard.index)


class StandingClock:
    """Tells nobody that a lease has lapsed."""

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Place:
    """A table, an admin, a broker."""

    engine: sa.Engine
    admin: RunningAdmin
    broker: str
    directory: Path

    @asynccontextmanager
    async def executor(self, app: Executor, name: str, *, admin: str = "", slots: int = 8) -> AsyncIterator[Path]:
        """Until it is linked; yields its directory."""
        settings = ExecutorSettings.from_env(
            admin=admin or self.admin.grpc,
            broker=self.broker,
            token=self.admin.executor_token,
            data=self.directory / name,
            name=name,
            slots=slots,
            drain_seconds=5,
            release_seconds=0,
        )
        async with daemon.build(settings, app) as house:
            running = asyncio.create_task(house.run())
            await house.ready()
            try:
                yield settings.data
            finally:
                house.stop()
                async with asyncio.timeout(20):
                    await running

    async def trigger(self, shards: int) -> str:
        async with self.admin.client() as client:
            job = {"name": "copy", "group": "copiers", "handler": "copy", "shards": shards}
            assert (await client.post("/jobs", json=job)).status_code == 201
            return str((await client.post("/jobs/copy/trigger", json={})).json()["id"])

    async def shards(self, run_id: str) -> list[dict[str, Any]]:
        async with self.admin.client() as client:
            return list((await client.get(f"/runs/{run_id}/shards")).json()["shards"])

    async def until_done(self, run_id: str) -> None:
        async def are_done() -> bool:
            return {shard["state"] for shard in await self.shards(run_id)} == {"succeeded"}

        await until(are_done, seconds=60)

    async def copied(self) -> Counter[tuple[int, int]]:
        """What the topic holds as (shard, id), once that is as much as there are rows; more would be there by then."""
        found: Counter[tuple[int, int]] = Counter()
        async with Consumer(self.broker, "check", [TOPIC]) as consumer, asyncio.timeout(30):
            while found.total() < ROWS:
                batch = await anext(consumer)
                found.update((int(message.body), int(message.key or "")) for message in batch)
                await consumer.commit(batch)
        return found


@asynccontextmanager
async def standing(tmp_path: Path) -> AsyncIterator[Place]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/users.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        connection.execute(sa.text("INSERT INTO users VALUES (:id)"), [{"id": n} for n in range(1, ROWS + 1)])
    async with (
        running_broker(tmp_path / "broker") as broker,
        running_admin(tmp_path / "admin", lease_seconds=LEASE_SECONDS, broker=broker) as admin,
    ):
        yield Place(engine, admin, broker, tmp_path)
    engine.dispose()


def each_row_once(shards: int) -> Counter[tuple[int, int]]:
    return Counter((shard_of(number, shards), number) for number in range(1, ROWS + 1))


async def until_true(check: Any) -> None:
    async def checked() -> bool:
        return bool(check())

    await until(checked)


async def test_a_holder_that_is_late_is_fenced_by_the_broker_and_its_report_by_the_admin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path) as place:
        late, heir = Copier(place.engine, batches=3), Copier(place.engine, batches=10 * ROWS)
        async with Proxy(place.admin.grpc) as link:
            with monkeypatch.context() as patching:
                patching.setattr(daemon, "time", StandingClock())
                entering = place.executor(late, "late", admin=link.endpoint)
                data = await entering.__aenter__()
            run_id = await place.trigger(shards=1)

            async def has_published() -> bool:
                return bool((await place.shards(run_id))[0]["published"] == 3 * BATCH)

            await until(has_published)
            link.freeze()
            async with place.executor(heir, "heir"):
                await place.until_done(run_id)
                late.let_go()
                await until_true(lambda: late.errors)
                assert isinstance(late.errors[0], StaleTerm)
                await until_true(lambda: list(data.glob("outbox/*/*.outcome")))
                link.restore()
                await until_true(lambda: not list(data.glob("outbox/*/*.outcome")))
            (shard,) = await place.shards(run_id)
            assert (shard["state"], shard["holder"], shard["term"], shard["rows"]) == ("succeeded", "heir", 2, ROWS)
            await entering.__aexit__(None, None, None)
        assert await place.copied() == each_row_once(1)


async def test_a_holder_whose_lease_lapses_by_its_own_clock_stops_with_nobody_to_tell_it(tmp_path: Path) -> None:
    async with standing(tmp_path) as place:
        app = Copier(place.engine, batches=3)
        async with Proxy(place.admin.grpc) as link, place.executor(app, "alone", admin=link.endpoint):
            run_id = await place.trigger(shards=1)

            async def has_published() -> bool:
                return bool((await place.shards(run_id))[0]["published"] == 3 * BATCH)

            await until(has_published)
            link.freeze()

            async def is_taken_away() -> bool:
                return bool((await place.shards(run_id))[0]["state"] == "waiting")

            await until(is_taken_away)
            app.let_go()
            await until_true(lambda: app.errors)
            assert isinstance(app.errors[0], Cancelled)
            assert app.ended == []
            link.restore()
            await place.until_done(run_id)
            assert app.begun == [(0, 1), (0, 1)]
            (shard,) = await place.shards(run_id)
            assert (shard["attempt"], shard["rows"]) == (1, ROWS)
        assert await place.copied() == each_row_once(1)


async def test_a_fast_executor_takes_the_shards_that_wait_behind_a_slow_one(tmp_path: Path) -> None:
    async with standing(tmp_path) as place:
        slow, fast = Copier(place.engine), Copier(place.engine, batches=10 * ROWS)
        async with place.executor(slow, "slow", slots=1), place.executor(fast, "fast", slots=1):
            run_id = await place.trigger(shards=8)
            await until_true(lambda: len(fast.ended) == 7)
            assert len(slow.begun) == 1
            slow.let_go()
            await place.until_done(run_id)
            assert sorted(fast.ended + slow.ended) == [*range(8)]
            assert {shard["term"] for shard in await place.shards(run_id)} == {1}, "nothing had to be taken away"
        assert await place.copied() == each_row_once(8)


async def test_a_run_has_as_many_shards_as_its_job_says_whoever_is_alive(tmp_path: Path) -> None:
    async with standing(tmp_path) as place:
        one, other = Copier(place.engine), Copier(place.engine, batches=10 * ROWS)
        run_id = await place.trigger(shards=8)
        assert len(await place.shards(run_id)) == 8, "with nobody alive"
        async with place.executor(one, "one", slots=3):
            await until_true(lambda: len(one.begun) == 3)
            async with place.executor(other, "other"):
                await until_true(lambda: len(other.ended) == 5)
                assert len(await place.shards(run_id)) == 8
            one.let_go()
            await place.until_done(run_id)
        assert sorted(one.begun + other.begun) == [(index, 8) for index in range(8)]
        assert await place.copied() == each_row_once(8)
