"""publish_each from end to end: every row once through a takeover, and no more in memory when the broker stalls."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client import ShardProducer
from broker.client.message import Message
from broker.testing import running_broker
from executor.app import Executor
from executor.daemon import build
from executor.running.context import AsyncContext, Context
from executor.sharding.table.questions import Row
from executor.sharding.units import Limits
from executor.testing import run_local
from protos.broker.v1 import broker_pb2 as pb
from protos.executor.v1 import link_pb2
from tests.integration.executor.test_exactly_once import ROWS, delivered, engine, every_row_once, settings_of
from tests.support.fake_admin import FakeAdmin, serving
from tests.support.fake_broker import FakeBroker, running_fake, stored
from tests.support.rows import LocalShard

__all__ = ["engine"]  # a fixture

pytestmark = pytest.mark.anyio


def an_app(engine: sa.Engine) -> Executor:
    app = Executor("group")

    @app.job("each")
    def each(context: Context) -> None:
        with context.publisher("push", max_messages=64, linger=timedelta(seconds=1)) as publisher:
            for users in context.scan(engine, "users", batch=100):
                publisher.publish_each(users, lambda user: Message(b"", key=str(user.id)))

    @app.job("paced")
    async def paced(context: AsyncContext) -> None:
        async with context.publisher("push", pace=1_000) as publisher:
            async for users in context.scan(engine, "users", batch=150):
                await publisher.publish_each(users, lambda user: Message(b"", key=str(user.id)))

    @app.job("failing")
    def failing(context: Context) -> None:
        def make(user: Row) -> Message:
            if user.id == 2_345:
                raise ValueError("no address")
            return Message(b"", key=str(user.id))

        with context.publisher("push") as publisher:
            for users in context.scan(engine, "users"):
                publisher.publish_each(users, make)

    return app


async def test_a_shard_that_is_taken_over_in_the_middle_of_a_paced_scan_publishes_every_row_once(
    tmp_path: Path, engine: sa.Engine
) -> None:
    admin = FakeAdmin()
    async with running_broker(tmp_path / "broker") as broker, serving(admin) as server:
        async with build(settings_of(server.port, broker, tmp_path), an_app(engine)) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            late = admin.assign("run", "paced", term=1)
            await admin.until(lambda: any(each.counters.published >= 200 for each in admin.progress))
            ended = await admin.outcome(admin.assign("run", "each", term=2))
            fenced = await admin.outcome(late)
            daemon.stop()
            await task
        assert (ended.state, fenced.state) == (
            link_pb2.OUTCOME_STATE_SUCCEEDED,
            link_pb2.OUTCOME_STATE_FENCED,
        )
        assert (ended.counters.rows, ended.counters.published) == (ROWS, ROWS)
        assert await delivered(broker, ROWS) == every_row_once()


async def test_the_outcome_of_a_row_that_failed_names_it_and_shows_where(tmp_path: Path, engine: sa.Engine) -> None:
    admin = FakeAdmin()
    async with running_broker(tmp_path / "broker") as broker, serving(admin) as server:
        async with build(settings_of(server.port, broker, tmp_path), an_app(engine)) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            ended = await admin.outcome(admin.assign("run", "failing"))
            daemon.stop()
            await task
        assert (ended.state, ended.error_code) == (link_pb2.OUTCOME_STATE_FAILED, "row_failed")
        assert "Row 2345 of users (scan 1) cannot be published: ValueError: no address." in ended.error_message
        assert 'raise ValueError("no address")' in ended.traceback
        assert ended.counters.published == 2_344


def test_a_handler_that_publishes_each_row_runs_in_a_test(engine: sa.Engine) -> None:
    run = run_local(an_app(engine).registry.get("each").function)
    assert [message.key for message in run.messages] == [str(n) for n in range(1, ROWS + 1)]
    assert run_local(an_app(engine).registry.get("paced").function, cursor=run.cursor).messages == []


class StalledBroker(FakeBroker):
    """Takes what comes and answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def Publish(  # noqa: N802
        self, requests: AsyncIterator[pb.PublishRequest], context: object
    ) -> AsyncIterator[pb.PublishResponse]:
        async for request in requests:
            self.streams.append([request.SerializeToString()])
            await self.may_answer.wait()
            yield stored(request)


@pytest.mark.parametrize(("count", "size"), [(4, 1 << 30), (1_000, 4 * 100 * 1_100)], ids=["publishes", "bytes"])
async def test_a_broker_that_stalls_makes_the_handler_wait_and_not_its_memory_grow(count: int, size: int) -> None:
    fake, window, unit, batches = StalledBroker(), 4, 100, 20
    made = 0

    def make(row: Row) -> Message:
        nonlocal made
        made += 1
        return Message(bytes(1_000), key=str(row))

    async def handle(shard: LocalShard) -> None:
        shard.out.begin("s")
        async with shard.publisher(Limits(messages=unit)) as publisher:
            for number in range(batches):
                await publisher.publish_each(shard.batch(range(number * unit, (number + 1) * unit)), make)

    async with (
        running_fake(fake) as endpoint,
        ShardProducer(endpoint, "run/1/0", term=1, holder_id="a", window=count, window_bytes=size) as producer,
    ):
        handling = asyncio.create_task(handle(LocalShard(producer)))
        async with asyncio.timeout(20):
            while not fake.streams or made < (window + 1) * unit:
                await asyncio.sleep(0)
        for _ in range(1_000):  # all that could go on has its turn
            await asyncio.sleep(0)
        assert made == (window + 1) * unit
        assert not handling.done()
        fake.may_answer.set()
        async with asyncio.timeout(20):
            await handling
        assert made == batches * unit
        assert len(fake.streams) == batches
