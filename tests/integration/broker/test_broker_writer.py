"""The writer's async face: answers in order, room for what waits; groups that are saved while callers come and go."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from broker.delivery.waiters import Waiters
from broker.engine.opening import Checkpointer
from broker.groups.coordinator import Coordinator
from broker.groups.membership import Group
from broker.groups.store import GroupStore
from broker.log.disk import Disk
from broker.model import Beat, GroupName, MemberId, Opened, QueueKey, QueueRange, TopicId, TopicName, TopicQueue
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


class SlowStore(GroupStore):
    """Counts saves, and finishes them only while it is let."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Disk())
        self.may_save = Event()
        self.saving = Event()
        self.saves = 0

    def save(self, group: Group) -> None:
        self.saving.set()
        assert self.may_save.wait(10)
        self.saves += 1
        super().save(group)


async def test_a_save_goes_on_when_its_caller_leaves_and_the_next_one_answers_all_others(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        groups = Coordinator(
            store,
            lambda names: {TopicQueue(name, 0): QueueRange(0, 0) for name in names},
            clock=lambda: 0.0,
            wall_clock=lambda: 0,
            disk_pool=pool,
            die=pytest.fail,
        )

        def beat(member: str) -> Beat:
            return Beat(GroupName("g"), MemberId(member), frozenset([TOPIC]), 3.0, from_latest=False)

        leaving = asyncio.create_task(groups.beat(beat("a")))
        await asyncio.to_thread(store.saving.wait, 10)
        leaving.cancel()
        waiting = [asyncio.create_task(groups.beat(beat(member))) for member in "bcd"]
        looking = asyncio.create_task(groups.get(GroupName("g")))
        await asyncio.wait([*waiting, looking], timeout=0.05)
        assert not any(task.done() for task in [*waiting, looking])
        store.may_save.set()
        await asyncio.gather(*waiting)
        assert store.saves == 2
        assert (await looking)[0] == store.load(0.0)[GroupName("g")]
        assert (await looking)[0].members.keys() == set("abcd")

        await groups.beat(replace(beat("a"), session_seconds=60.0))
        assert store.load(0.0)[GroupName("g")].members[MemberId("a")].session_seconds == 60.0
