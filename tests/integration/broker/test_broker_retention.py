"""Retention over a whole broker: what is old goes, whole segments at a time, and nothing that somebody needs."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.broker import Broker
from broker.daemon import build
from broker.delivery.reader import read_batch
from broker.delivery.retention.rules import Holder, HolderKind
from broker.errors import OffsetOutOfRange
from broker.face import reading
from broker.face.consuming.leasing import WantedLease
from broker.face.reading import Wanted
from broker.face.upkeep import retention
from broker.face.upkeep.retention import Retainer, Swept
from broker.log.disk import Disk
from broker.model import (
    Attributes,
    Beat,
    Edge,
    Fetched,
    GroupName,
    HolderId,
    MemberId,
    OffsetCommit,
    ProducerId,
    Publish,
    Published,
    TopicBatch,
    TopicName,
    TopicPolicy,
    TopicQueue,
)
from broker.settings import BrokerSettings

pytestmark = pytest.mark.anyio

RUN = ProducerId("run/r/0")
ORDERS = TopicName("orders")
DAY_MS = 24 * 3_600_000
BODY = bytes(7 << 20)  # two of them fill a segment of 16 MiB


class Clock:
    """Milliseconds, as a test sets them."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@asynccontextmanager
async def running(data: Path, clock: Clock, disk: Disk | None = None, **settings: object) -> AsyncIterator[Broker]:
    """A broker without its loops."""
    given = {"data": data, "port": 0, "segment_bytes": 16 << 20, "disk_reserve_bytes": 0, **settings}
    async with build(BrokerSettings.from_env(**given), disk=disk, clock=clock) as house:
        yield house.broker


async def publish(broker: Broker, sequence: int, *, topic: TopicName = ORDERS, deliver_at_ms: int = 0) -> Published:
    """One message of 7 MiB into queue 0."""
    attributes = {0: Attributes(deliver_at_ms=deliver_at_ms)} if deliver_at_ms else {}
    batch = TopicBatch(topic, [BODY], attributes=attributes, queue=0)
    answer = await (await broker.publishing.publish(Publish(RUN, 1, HolderId("h"), sequence, None, [batch])))
    assert isinstance(answer, Published), answer
    return answer


async def fill(broker: Broker, clock: Clock, days: int = 6) -> None:
    """A message a day, the first at once: three segments."""
    await broker.publishing.open_producer(RUN, 1, HolderId("h"))
    for sequence in range(1, days + 1):
        await publish(broker, sequence)
        clock.now_ms += DAY_MS


async def offsets(broker: Broker) -> tuple[int, int]:
    _, [held, *_] = broker.topics.get(ORDERS)
    return held.lowest_offset, held.end_offset


async def fetch(broker: Broker, offset: int) -> int:
    fetched = await broker.reading.fetch(Wanted(ORDERS, 0, offset, 1, 1, 0.0))
    return len(fetched.bodies)


def segments(data: Path) -> list[int]:
    return sorted(int(path.stem) >> 20 for path in (data / "log").glob("*.log"))


async def test_old_messages_go_segment_by_segment(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await fill(broker, clock)
        assert segments(tmp_path) == [0, 14, 28]
        assert await broker.retainer.run_once() == Swept(messages=3, segments=1)
        assert await offsets(broker) == (3, 6)
        assert segments(tmp_path) == [14, 28]
        with pytest.raises(OffsetOutOfRange):
            await fetch(broker, 2)
        assert await fetch(broker, 3) == 1
        assert await broker.retainer.oldest_held_by() == [Holder(HolderKind.RETENTION, at=TopicQueue(ORDERS, 0))]


async def test_a_log_that_begins_above_zero_opens_after_a_crash_and_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await fill(broker, clock)
        await broker.retainer.run_once()
        checkpoint = (tmp_path / "checkpoint.json").read_bytes()
        await publish(broker, 7)
    (tmp_path / "checkpoint.json").write_bytes(checkpoint)  # what a crash would have left
    async with running(tmp_path, clock) as broker:
        assert await offsets(broker) == (3, 7)
        assert [await fetch(broker, offset) for offset in range(3, 7)] == [1] * 4
        assert (await publish(broker, 1)).duplicate
        assert not (await publish(broker, 8)).duplicate
        assert await offsets(broker) == (3, 8)


async def test_lost_queue_files_of_a_log_that_begins_above_zero_are_made_again(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await fill(broker, clock)
        await broker.retainer.run_once()
    for path in (tmp_path / "queues").glob("*/*/*"):
        path.unlink()
    for path in [*(tmp_path / "log").glob("*.times"), *(tmp_path / "log").glob("*.keys")]:
        path.unlink()
    async with running(tmp_path, clock) as broker:
        assert await offsets(broker) == (3, 6)
        assert await broker.finding.offsets(ORDERS, clock.now_ms - 2 * DAY_MS) == [4, 0, 0, 0]


async def test_a_group_keeps_what_it_has_not_read_until_it_is_long_gone(tmp_path: Path) -> None:
    clock, group, member = Clock(), GroupName("g"), MemberId("m")
    async with running(tmp_path, clock) as broker:
        await fill(broker, clock)
        joined = await broker.groups.beat(Beat(group, member, frozenset([ORDERS]), 60.0))
        first = next(owned for owned in joined.owned if owned.claim.at.queue == 0)
        await broker.groups.commit(group, member, [OffsetCommit(first.claim, 1)])
        assert await broker.retainer.run_once() == Swept(messages=1, segments=0)
        assert await broker.retainer.oldest_held_by() == [Holder(HolderKind.GROUP, "g", TopicQueue(ORDERS, 0))]

        await broker.groups.leave(group, member)
        clock.now_ms += 6 * DAY_MS
        assert (await broker.retainer.run_once()).messages == 0
        clock.now_ms += 1 * DAY_MS
        assert await broker.retainer.run_once() == Swept(messages=5, segments=2)


async def test_a_group_that_reads_by_lease_keeps_what_it_has_not_settled(tmp_path: Path) -> None:
    clock, group, member = Clock(), GroupName("g"), MemberId("m")
    async with running(tmp_path, clock) as broker:
        await fill(broker, clock)
        wanted = WantedLease(group, member, ORDERS, 1, 30_000, 0.0, frozenset(), Edge.EARLIEST)
        assert [*(await broker.leasing.lease(wanted)).offsets] == [0]
        assert (await broker.retainer.run_once()).messages == 0
        assert await broker.retainer.oldest_held_by() == [Holder(HolderKind.GROUP, "g", TopicQueue(ORDERS, 0))]


async def test_a_delayed_message_keeps_its_segment(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await broker.publishing.open_producer(RUN, 1, HolderId("h"))
        await publish(broker, 1, deliver_at_ms=clock.now_ms + 6 * DAY_MS)
        for sequence in range(2, 6):
            await publish(broker, sequence)
        clock.now_ms += 5 * DAY_MS
        assert await broker.retainer.run_once() == Swept(messages=4, segments=0)
        assert await broker.retainer.oldest_held_by() == [Holder(HolderKind.DELAYED, ORDERS)]

        clock.now_ms += 1 * DAY_MS
        assert (await broker.delays.deliverer.run_once()).count == 1
        assert await broker.retainer.run_once() == Swept(messages=0, segments=2)
        assert await fetch(broker, 4) == 1


async def test_the_size_of_the_whole_log_is_bounded(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock, retention_hours=0, retention_bytes=32 << 20) as broker:
        await fill(broker, clock)
        assert await broker.retainer.run_once() == Swept(messages=2, segments=1)
        assert await broker.retainer.run_once() == Swept(messages=0, segments=0)


async def test_a_topic_has_its_own_age_and_size(tmp_path: Path) -> None:
    clock, others = Clock(), TopicName("others")
    async with running(tmp_path, clock, retention_hours=0) as broker:
        await broker.topics.create(ORDERS, 4, TopicPolicy(retention_bytes=15 << 20))
        await broker.topics.create(others, 4, TopicPolicy(retention=timedelta(days=1)))
        await fill(broker, clock, days=4)
        await publish(broker, 5, topic=others)
        clock.now_ms += 2 * DAY_MS
        assert await broker.retainer.run_once() == Swept(messages=3, segments=1)
        assert await offsets(broker) == (2, 4)


async def test_a_deleted_topic_keeps_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock, retention_hours=0) as broker:
        await fill(broker, clock)
        assert (await broker.retainer.run_once()).segments == 0
        await broker.topics.delete(ORDERS)
        await publish(broker, 7, topic=TopicName("others"))
        assert (await broker.retainer.run_once()).segments == 0  # no checkpoint knows of it yet
    async with running(tmp_path, clock, retention_hours=0) as broker:
        assert (await broker.retainer.run_once()).segments == 3


async def test_a_reader_whose_segment_is_deleted_under_it_gets_no_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, loop = Clock(), asyncio.get_running_loop()

    async with running(tmp_path, clock) as broker:
        await fill(broker, clock)

        def read_too_late(*given: Any, **limits: Any) -> Fetched:
            swept = asyncio.run_coroutine_threadsafe(broker.retainer.run_once(), loop).result()
            assert swept.segments == 1
            return read_batch(*given, **limits)

        monkeypatch.setattr(reading, "read_batch", read_too_late)
        with pytest.raises(OffsetOutOfRange):
            await fetch(broker, 1)


class SickDisk(Disk):
    """Neither syncs nor deletes while it is told not to."""

    may_sync = may_remove = True

    def sync(self, fd: int) -> None:
        if not self.may_sync:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(fd)

    def remove(self, path: Path) -> None:
        if not self.may_remove:
            raise OSError(errno.EIO, "Input/output error")
        super().remove(path)


class Died(Exception):
    """The process would have ended here."""


def _die(error: BaseException) -> None:
    raise Died from error


async def test_a_log_that_cannot_be_synced_before_a_deletion_ends_the_process(tmp_path: Path) -> None:
    clock, disk = Clock(), SickDisk()
    settings = BrokerSettings.from_env(data=tmp_path, port=0, disk_reserve_bytes=0, durability="os")
    async with build(settings, disk=disk, clock=clock, die=_die) as house:
        await house.broker.publishing.open_producer(RUN, 1, HolderId("h"))
        disk.may_sync = False
        with pytest.raises(Died):
            await house.broker.retainer.run_once()
        disk.may_sync = True


async def test_what_cannot_be_deleted_now_is_deleted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, disk = Clock(), SickDisk()
    rounds = asyncio.Semaphore(0)
    run_once = Retainer.run_once

    async def counted(retainer: Retainer) -> Swept:
        try:
            return await run_once(retainer)
        finally:
            rounds.release()

    monkeypatch.setattr(Retainer, "run_once", counted)
    monkeypatch.setattr(retention, "EVERY_SECONDS", 0.001)
    async with running(tmp_path, clock, disk=disk) as broker:
        await fill(broker, clock)
        disk.may_remove = False
        loop = asyncio.create_task(broker.retainer.run())
        for _ in range(3):
            await rounds.acquire()
        assert segments(tmp_path) == [0, 14, 28]
        disk.may_remove = True
        for _ in range(3):
            await rounds.acquire()
        assert segments(tmp_path) == [14, 28]
        broker.drain()
        await loop
