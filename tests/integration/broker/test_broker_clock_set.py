"""A broker whose clock is set: what is due by then is there, and who waits is told at once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.client import Consumer, Message, Producer
from broker.client.operating.looking import LookClient
from broker.daemon import build, wall_clock
from broker.testing import light_settings

pytestmark = pytest.mark.anyio


class Clock:
    """The wall clock, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> int:
        return wall_clock() + self.ahead // timedelta(milliseconds=1)


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.01)


async def test_what_is_due_is_in_its_queue_and_who_waits_gets_it(tmp_path: Path) -> None:
    clock = Clock()
    async with build(light_settings(tmp_path), clock=clock) as house:
        serving = asyncio.create_task(house.run())
        endpoint = house.endpoints["grpc"]
        async with (
            Producer(endpoint) as producer,
            LookClient(endpoint) as look,
            Consumer(endpoint, "readers", ["orders"], mode="lease") as consumer,
        ):
            receipt = await producer.publish("orders", Message(b"now", key="1"))
            in_a_day = datetime.now(UTC) + timedelta(days=1)
            await producer.publish("orders", Message(b"tomorrow", key="1", deliver_at=in_a_day))
            (first,) = await anext(consumer)
            await consumer.retry(first, after=timedelta(hours=1))
            waiting = asyncio.ensure_future(anext(consumer))
            await until(lambda: house.broker._waiters._waiting)
            assert not waiting.done()
            clock.ahead = timedelta(hours=1)
            await house.clock_was_set()
            async with asyncio.timeout(2):  # far less than it would wait by itself
                (again,) = await waiting
            assert (again.body, again.attempt) == (b"now", 2)
            clock.ahead = timedelta(days=1, seconds=1)
            await house.clock_was_set()
            stored = await look.read("orders", receipt.queue, 0, 10)
            assert [message.body for message in stored] == [b"now", b"tomorrow"]
        house.stop()
        await serving
