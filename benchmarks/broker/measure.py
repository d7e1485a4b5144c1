"""How a message system is measured, ours and its peers alike: publish rate, fetch rate, latency."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

WARM_UP = 50  # round trips that do not count

Receive = Callable[[], Awaitable[int]]
"""Waits for the next messages and returns how many came."""


class Publishing(Protocol):
    """What can be published to."""

    async def publish(self, topic: str, batch: int) -> None:
        """Returns when so many messages are acknowledged."""


class System(Publishing, Protocol):
    """What can be published to and read from."""

    def reading(self, topic: str) -> AbstractAsyncContextManager[Receive]:
        """From the topic's first message on."""


async def publish_rate(system: Publishing, topic: str, count: int, batch: int, in_flight: int) -> float:
    """Messages per second, with so many publishes under way at any time."""
    left = iter(range(count // batch))

    async def keep_publishing() -> None:
        for _ in left:
            await system.publish(topic, batch)

    began = time.perf_counter()
    await asyncio.gather(*(keep_publishing() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)


async def fetch_rate(system: System, topic: str, count: int) -> float:
    """Messages per second, of a topic that holds at least so many."""
    async with system.reading(topic) as receive:
        began, received = time.perf_counter(), 0
        while received < count:
            received += await receive()
        return received / (time.perf_counter() - began)


async def latencies(system: System, topic: str, count: int) -> list[float]:
    """Seconds from the call of publish to the receipt, one message at a time by a reader that waits already."""
    taken = []
    async with system.reading(topic) as receive:
        for _ in range(WARM_UP + count):
            receiving = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            began = time.perf_counter()
            publishing = asyncio.create_task(system.publish(topic, 1))
            await receiving
            taken.append(time.perf_counter() - began)
            await publishing
    return taken[WARM_UP:]


def milliseconds(seconds: Sequence[float], percent: int) -> float:
    """What so many percent of them stayed under."""
    return 1_000 * sorted(seconds)[len(seconds) * percent // 100]
