"""What goes over a carrier: little, whatever rings, and nothing that cannot be understood comes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from admin.wakeup.shared import GATHER_SECONDS, SharedWakeup

pytestmark = pytest.mark.anyio


@dataclass
class FakeCarrier:
    """A carrier, and its one connection, that does as a test says."""

    connects: int = 0
    sent: list[str] = field(default_factory=list)
    comes: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    takes: asyncio.Event = field(default_factory=asyncio.Event)  # messages, and echoes them
    is_broken: bool = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["FakeCarrier"]:
        self.connects += 1
        yield self

    async def send(self, message: str) -> None:
        if self.is_broken:
            raise OSError("broken")
        await self.takes.wait()
        self.sent.append(message)
        self.comes.put_nowait(message)

    async def received(self) -> AsyncIterator[str]:
        while True:
            yield await self.comes.get()

    async def until_sent(self, bell: str) -> None:
        async with asyncio.timeout(30):
            while not any(bell in message for message in self.sent):
                await asyncio.sleep(0)


@asynccontextmanager
async def running(carrier: FakeCarrier, **more: float) -> AsyncIterator[SharedWakeup]:
    wakeup = SharedWakeup(carrier, chance=lambda: 0.0, **more)
    with wakeup.listen("planner") as bell:
        task = asyncio.create_task(wakeup.run())
        assert await bell.wait(5)
        try:
            yield wakeup
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_rings_while_a_message_is_on_its_way_goes_together() -> None:
    carrier = FakeCarrier()
    async with running(carrier) as wakeup:
        for _ in range(1_000):
            wakeup.ring("planner")
            wakeup.ring("run/1")
            wakeup.ring("dispatcher")
            await asyncio.sleep(0)
        carrier.takes.set()
        await carrier.until_sent("dispatcher")
    assert len(carrier.sent) <= 2
    assert {bell for message in carrier.sent for bell in message.split(" ")[1:]} == {"dispatcher", "planner"}


async def test_messages_keep_a_distance_however_fast_it_rings() -> None:
    carrier = FakeCarrier()
    carrier.takes.set()
    loop = asyncio.get_running_loop()
    async with running(carrier) as wakeup:
        begun_at = loop.time()
        while loop.time() - begun_at < 10 * GATHER_SECONDS:
            wakeup.ring("planner")
            await asyncio.sleep(0)
        most = (loop.time() - begun_at) / GATHER_SECONDS + 2
    assert 2 <= len(carrier.sent) <= most


async def test_a_ring_that_could_not_be_sent_is_sent_on_the_next_connection() -> None:
    carrier = FakeCarrier(is_broken=True)
    carrier.takes.set()
    async with running(carrier) as wakeup:
        wakeup.ring("dispatcher")
        async with asyncio.timeout(30):
            while carrier.connects < 2:
                await asyncio.sleep(0)
        carrier.is_broken = False
        await carrier.until_sent("dispatcher")


async def test_a_connection_that_brings_nothing_is_left_for_another_one() -> None:
    carrier = FakeCarrier()
    async with running(carrier, silent_seconds=0.05), asyncio.timeout(30):
        while carrier.connects < 3:
            await asyncio.sleep(0)


async def test_own_beats_keep_a_connection() -> None:
    carrier = FakeCarrier()
    carrier.takes.set()
    async with running(carrier, silent_seconds=0.2), asyncio.timeout(30):
        while len(carrier.sent) < 5:
            await asyncio.sleep(0)
    assert carrier.connects == 1


@pytest.mark.parametrize("message", ["", " ", "another", "another run/1 nothing", "planner", "\ufffd planner2"])
async def test_what_is_not_understood_rings_nothing(message: str) -> None:
    carrier = FakeCarrier()
    async with running(carrier) as wakeup:
        with wakeup.listen("planner") as planner, wakeup.listen("run/1") as run, wakeup.listen("dispatcher") as last:
            carrier.comes.put_nowait(message)
            carrier.comes.put_nowait("another dispatcher")
            assert await last.wait(5)
            assert not await planner.wait(0)
            assert not await run.wait(0)


async def test_it_ends_although_a_bell_rings_as_it_is_cancelled() -> None:
    """An admin that drains rings for its loops, and cancels this."""
    carrier = FakeCarrier()
    carrier.takes.set()
    wakeup = SharedWakeup(carrier, chance=lambda: 0.0)
    task = asyncio.create_task(wakeup.run())
    wakeup.ring("planner")
    await carrier.until_sent("planner")
    await asyncio.sleep(2 * GATHER_SECONDS)  # until it waits for news
    wakeup.ring("planner")
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
