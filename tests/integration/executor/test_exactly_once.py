"""Shards on the real broker: every row once, also when they change hands in the middle."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client import Consumer
from broker.client.message import Message
from broker.testing import running_broker
from executor.app import Executor
from executor.daemon import build
from executor.running.context import AsyncContext, Context
from executor.settings import ExecutorSettings
from protos.executor.v1 import link_pb2 as pb
from tests.support.fake_admin import FakeAdmin, serving

pytestmark = pytest.mark.anyio

ROWS = 4_000
SHARDS = 4


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/users.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        connection.execute(sa.text("INSERT INTO users VALUES (:id)"), [{"id": n} for n in range(1, ROWS + 1)])
    return engine


def an_app(engine: sa.Engine, batches: asyncio.Semaphore | None = None) -> Executor:
    app = Executor("group")

    @app.job("push")
    def push(context: Context) -> int:
        count = 0
        with context.publisher("push") as publisher:
            for users in context.scan(engine, "users", batch=100):
                publisher.publish([Message(b"", key=str(user.id)) for user in users], checkpoint=users.cursor)
                count += len(users)
        return count

    @app.job("slow")
    async def slow(context: AsyncContext) -> None:
        async with context.publisher("push") as publisher:
            async for users in context.scan(engine, "users", batch=100):
                assert batches is not None
                await batches.acquire()
                await publisher.publish([Message(b"", key=str(user.id)) for user in users], checkpoint=users.cursor)

    return app


async def delivered(broker: str, expected: int) -> Counter[str]:
    """What a new consumer group gets until it has as much as expected and nothing more comes."""
    keys: Counter[str] = Counter()
    async with Consumer(broker, "check", ["push"]) as consumer:
        while keys.total() < expected:
            async with asyncio.timeout(30):
                batch = await anext(consumer)
            keys.update(message.key or "" for message in batch)
            await consumer.commit(batch)
    return keys


def every_row_once() -> Counter[str]:
    return Counter(str(n) for n in range(1, ROWS + 1))


def settings_of(port: int, broker: str, data: Path) -> ExecutorSettings:
    return ExecutorSettings(admin=f"127.0.0.1:{port}", broker=broker, data=data)


async def outcomes(admin: FakeAdmin, keys: Sequence[tuple[str, int, int]]) -> list[pb.Outcome]:
    return [await admin.outcome(key) for key in keys]


async def test_all_shards_publish_every_row_once(tmp_path: Path, engine: sa.Engine) -> None:
    admin = FakeAdmin()
    async with running_broker(tmp_path / "broker") as broker, serving(admin) as server:
        async with build(settings_of(server.port, broker, tmp_path), an_app(engine)) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            keys = [admin.assign("run", "push", shard=n, total=SHARDS) for n in range(SHARDS)]
            ended = await outcomes(admin, keys)
            daemon.stop()
            await task
        assert {outcome.state for outcome in ended} == {pb.OUTCOME_STATE_SUCCEEDED}, ended
        assert sum(outcome.counters.published for outcome in ended) == ROWS
        assert sum(outcome.counters.rows for outcome in ended) == ROWS
        assert set(admin.pins) == {("run", "log"), ("run", "scan/1")}
        assert await delivered(broker, ROWS) == every_row_once()


async def test_a_shard_that_is_taken_over_goes_on_and_the_late_holder_is_fenced(
    tmp_path: Path, engine: sa.Engine
) -> None:
    admin, batches = FakeAdmin(), asyncio.Semaphore(3)
    async with running_broker(tmp_path / "broker") as broker, serving(admin) as server:
        async with build(settings_of(server.port, broker, tmp_path), an_app(engine, batches)) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            late = admin.assign("run", "slow", term=1)
            await admin.until(lambda: any(each.counters.published >= 300 for each in admin.progress))
            next_holder = admin.assign("run", "push", term=2)
            ended = await admin.outcome(next_holder)
            for _ in range(ROWS):
                batches.release()
            fenced = await admin.outcome(late)
            daemon.stop()
            await task
        assert (ended.state, ended.result) == (pb.OUTCOME_STATE_SUCCEEDED, str(ROWS - 300))
        assert (ended.counters.rows, ended.counters.published) == (ROWS, ROWS)
        assert (fenced.state, fenced.broker_term) == (pb.OUTCOME_STATE_FENCED, 2)
        assert await delivered(broker, ROWS) == every_row_once()


async def test_a_run_goes_on_behind_the_bound_it_began_with(tmp_path: Path, engine: sa.Engine) -> None:
    admin = FakeAdmin()
    async with running_broker(tmp_path / "broker") as broker, serving(admin) as server:
        async with build(settings_of(server.port, broker, tmp_path), an_app(engine)) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            first = await admin.outcome(admin.assign("run", "push", shard=0, total=2))
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO users VALUES (:id)"), {"id": ROWS + 1})
            second = await admin.outcome(admin.assign("run", "push", shard=1, total=2))
            again = await admin.outcome(admin.assign("run", "push", shard=0, total=2, term=2))
            daemon.stop()
            await task
        assert first.counters.published + second.counters.published == ROWS
        assert (again.result, again.counters.published) == ("0", first.counters.published)


async def test_a_listener_gets_every_message_and_a_failed_batch_again(tmp_path: Path, engine: sa.Engine) -> None:
    admin, app = FakeAdmin(), an_app(engine)
    seen: Counter[str] = Counter()
    failures = [RuntimeError("the provider is away")]
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.consumer("push", group="listeners")
    def listen(messages: list[Message]) -> None:
        if failures:
            raise failures.pop()
        seen.update(message.key or "" for message in messages)
        if seen.total() >= ROWS:
            loop.call_soon_threadsafe(enough.set)

    async with (
        running_broker(tmp_path / "broker") as broker,
        serving(admin) as server,
        build(settings_of(server.port, broker, tmp_path), app) as daemon,
    ):
        task = asyncio.create_task(daemon.run())
        await admin.until(lambda: admin.beats)
        await admin.outcome(admin.assign("run", "push"))
        async with asyncio.timeout(30):
            await enough.wait()
        daemon.stop()
        await task
    assert seen == every_row_once()
    assert failures == []
