"""Who counts as a member of a group that reads by lease, and for how long its messages do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.broker import Broker
from broker.daemon import build
from broker.errors import GroupActive, ModeConflict
from broker.face.leasing import LeasedBatch, WantedLease
from broker.groups.resetting import Reset
from broker.model import Beat, Edge, GroupName, HolderId, MemberId, ProducerId, Publish, TopicBatch, TopicName
from broker.settings import BrokerSettings

pytestmark = pytest.mark.anyio

GROUP, ORDERS, ANN, BOB = GroupName("readers"), TopicName("orders"), MemberId("ann"), MemberId("bob")
LEASE_MS = 10_000


class Clock:
    """Milliseconds, as a test sets them."""

    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@asynccontextmanager
async def running(data: Path, clock: Clock) -> AsyncIterator[Broker]:
    """A broker with three messages."""
    settings = BrokerSettings.from_env(data=data, port=0, disk_reserve_bytes=0)
    async with build(settings, clock=clock) as house:
        producer, holder = ProducerId("producer/p"), HolderId("h")
        await house.broker.publishing.open_producer(producer, 1, holder)
        batches = [TopicBatch(ORDERS, [b"0", b"1", b"2"], queue=0)]
        await (await house.broker.publishing.publish(Publish(producer, 1, holder, 1, None, batches)))
        yield house.broker


async def lease(broker: Broker, most: int = 1) -> LeasedBatch:
    wanted = WantedLease(GROUP, ANN, ORDERS, most, LEASE_MS, 0.0, frozenset(), Edge.EARLIEST)
    return await broker.leasing.lease(wanted)


def beat() -> Beat:
    return Beat(GROUP, BOB, frozenset([ORDERS]), 10.0)


async def test_a_member_that_left_and_leases_again_is_a_member_again(tmp_path: Path) -> None:
    async with running(tmp_path, Clock()) as broker:
        await lease(broker)
        await broker.groups.leave(GROUP, ANN)
        await lease(broker)
        assert (await broker.groups.get(GROUP)).status.group.members.keys() == {ANN}


async def test_a_member_that_left_cannot_lease_from_a_group_that_is_read_by_offset_now(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await lease(broker)
        await broker.groups.leave(GROUP, ANN)
        clock.now_ms += LEASE_MS
        await broker.groups.beat(beat())
        with pytest.raises(ModeConflict):
            await lease(broker)


async def test_leases_hold_a_group_until_they_run_out(tmp_path: Path) -> None:
    """Nobody would ever settle those of a member that died: the group could never be reset or read the other way."""
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await lease(broker)
        await broker.groups.leave(GROUP, ANN)
        with pytest.raises(GroupActive):
            await broker.groups.reset(Reset(GROUP, ORDERS, Edge.LATEST))
        with pytest.raises(ModeConflict):
            await broker.groups.beat(beat())
        clock.now_ms += LEASE_MS
        assert (await broker.groups.reset(Reset(GROUP, ORDERS, Edge.LATEST))).after[0] == 3
        await broker.groups.beat(beat())
