"""The writer's async face: answers in order, room for what waits."""

import asyncio
from pathlib import Path
from threading import Event

import pytest

from broker.delivery.waiters import Waiters
from broker.engine.opening import Checkpointer
from broker.log.disk import Disk
from broker.model import Opened, QueueKey, TopicId, TopicName
from broker.writer import WAITING_BYTES, Writer
from tests.support.broker_engine import opening, running_engine

pytestmark = pytest.mark.anyio

TOPIC = TopicName("t")


class BlockingDisk(Disk):
    """Syncs only while it is let."""

    def __init__(self) -> None:
        self.may_sync = Event()
        self.may_sync.set()

    def sync(self, fd: int) -> None:
        assert self.may_sync.wait(10)
        super().sync(fd)


async def test_what_does_not_fit_waits_for_the_sync_of_what_is_before_it(tmp_path: Path) -> None:
    disk = BlockingDisk()
    with running_engine(tmp_path, disk) as (engine, directory):
        checkpointer = Checkpointer(engine, directory, disk, 1 << 30, pytest.fail)
        writer = Writer(engine, checkpointer, lambda _: None, pytest.fail)
        disk.may_sync.clear()
        first = await writer.submit(opening("run/a/0", 1, "h"), WAITING_BYTES)
        second = asyncio.create_task(writer.submit(opening("run/a/0", 1, "h"), 1))
        await asyncio.wait((second,), timeout=0.05)
        assert not second.done()
        assert not first.done()
        disk.may_sync.set()
        assert await first == await (await second) == Opened(0, None)
        await writer.stop()


async def test_waiters_of_a_queue_are_woken_together_and_others_are_not() -> None:
    waiters = Waiters()
    one, other = QueueKey(TopicId(1), 0), QueueKey(TopicId(1), 1)
    woken = [asyncio.create_task(waiters.wait(one, 10)) for _ in range(2)]
    asleep = asyncio.create_task(waiters.wait(other, 10))
    await asyncio.sleep(0)
    waiters.wake([one])
    await asyncio.gather(*woken)
    assert not asleep.done()
    waiters.wake_all()
    await asleep
