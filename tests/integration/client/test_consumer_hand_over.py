"""A consumer whose queue is asked for, given back, and kept after all: nothing twice, nothing left out."""

import asyncio

import pytest

from broker.client import Consumer
from broker.errors import BrokerStopping, UnknownTopic
from protos.broker.v1 import broker_pb2 as pb
from protos.errors import PermissionDenied, ShardcastError
from tests.support.fake_broker import FakeBroker, running_fake

pytestmark = pytest.mark.anyio

CLAIM = pb.Claim(topic="t", queue=0, generation=1)


def owning() -> FakeBroker:
    broker = FakeBroker()
    broker.owned = [pb.Assignment(claim=CLAIM, offset=0)]
    return broker


async def offsets(consumer: Consumer, count: int) -> list[int]:
    return [(await anext(consumer)).first_offset for _ in range(count)]


async def failure(consumer: Consumer) -> str:
    """The code of what ends the reading."""
    try:
        async for _ in consumer:
            pass
    except ShardcastError as error:
        return error.code
    raise AssertionError


async def test_a_queue_whose_release_was_lost_goes_on_behind_the_commit() -> None:
    broker = owning()
    async with asyncio.timeout(30), running_fake(broker) as endpoint, Consumer(endpoint, "g", ["t"]) as consumer:
        first = await anext(consumer)
        await consumer.commit(first)
        broker.release_error, broker.release = BrokerStopping(), [CLAIM]
        await broker.released.wait()
        broker.owned, broker.release = [pb.Assignment(claim=CLAIM, offset=broker.committed)], []
        await broker.beats()
        assert await offsets(consumer, 12) == list(range(1, 13))


async def test_a_queue_that_nobody_else_wants_any_more_goes_on_behind_what_was_handed_out() -> None:
    broker = owning()
    async with asyncio.timeout(30), running_fake(broker) as endpoint, Consumer(endpoint, "g", ["t"]) as consumer:
        await anext(consumer)
        broker.release = [CLAIM]
        await broker.beats()
        broker.release = []
        assert await offsets(consumer, 8) == list(range(1, 9))
        assert not broker.released.is_set()


async def test_a_queue_is_given_back_only_behind_its_last_commit() -> None:
    broker = owning()
    async with asyncio.timeout(30), running_fake(broker) as endpoint, Consumer(endpoint, "g", ["t"]) as consumer:
        first, second = await anext(consumer), await anext(consumer)
        broker.release = [CLAIM]
        await broker.beats()
        await consumer.commit(first)
        assert not broker.released.is_set()
        await consumer.commit(second)
        assert broker.released.is_set()


async def test_what_made_reading_impossible_is_raised_each_time() -> None:
    for fault in ("beat_error", "fetch_error"):
        broker = owning()
        error = UnknownTopic(topic="t") if fault == "fetch_error" else PermissionDenied(reason="not you")
        async with asyncio.timeout(30), running_fake(broker) as endpoint, Consumer(endpoint, "g", ["t"]) as consumer:
            setattr(broker, fault, error)
            raised = [await failure(consumer) for _ in range(3)]
        assert raised == [error.code] * 3
