"""Who counts as a member of a group that reads by lease, and for how long its messages do."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.broker import Broker
from broker.daemon import build
from broker.delivery.leases.settling import Action, Settlement
from broker.delivery.reader import read_records
from broker.engine.commands import DropSilent
from broker.errors import GroupActive, ModeConflict
from broker.face.consuming import leasing
from broker.face.consuming.leasing import SESSION_SECONDS, LeasedBatch, WantedLease
from broker.groups.answers import LeaseCounts
from broker.groups.resetting import Reset
from broker.model import (
    Beat,
    Edge,
    GroupName,
    GroupPolicy,
    HolderId,
    MemberId,
    ProducerId,
    Publish,
    QueueKey,
    TopicBatch,
    TopicName,
)
from broker.queues.altered.alteration import Alteration
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
async def building(data: Path, clock: Clock) -> AsyncIterator[Broker]:
    settings = BrokerSettings.from_env(data=data, port=0, disk_reserve_bytes=0)
    async with build(settings, clock=clock) as house:
        yield house.broker


@asynccontextmanager
async def running(data: Path, clock: Clock) -> AsyncIterator[Broker]:
    """A broker with three messages."""
    async with building(data, clock) as broker:
        producer, holder = ProducerId("producer/p"), HolderId("h")
        await broker.publishing.open_producer(producer, 1, holder)
        batches = [TopicBatch(ORDERS, [b"0", b"1", b"2"], queue=0)]
        await (await broker.publishing.publish(Publish(producer, 1, holder, 1, None, batches)))
        yield broker


async def lease(broker: Broker, most: int = 1, member_id: MemberId = ANN, *, wait_seconds: float = 0.0) -> LeasedBatch:
    wanted = WantedLease(GROUP, member_id, ORDERS, most, LEASE_MS, wait_seconds, frozenset(), Edge.EARLIEST)
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
    async with running(tmp_path, Clock()) as broker:
        await lease(broker)
        await broker.groups.leave(GROUP, ANN)
        await broker.groups.beat(beat())
        with pytest.raises(ModeConflict):
            await lease(broker)


async def test_who_waits_gets_at_once_what_a_member_had_that_left(tmp_path: Path) -> None:
    async with running(tmp_path, Clock()) as broker:
        await lease(broker, 3)
        waiting = asyncio.create_task(lease(broker, 3, BOB, wait_seconds=20.0))
        while BOB not in (await broker.groups.get(GROUP)).status.group.members:
            await asyncio.sleep(0)
        await broker.groups.leave(GROUP, ANN)
        assert len((await waiting).bodies) == 3


async def test_settling_and_extending_keep_a_member_alive(tmp_path: Path) -> None:
    async with running(tmp_path, Clock()) as broker:
        batch = await lease(broker)
        before = (await broker.groups.get(GROUP)).status.group.members[ANN].expires
        broker.awake()
        for action in (Action.EXTEND, Action.ACKNOWLEDGE):
            settlement = Settlement(batch.queues[0], batch.offsets, batch.attempts, action, 1_000)
            await broker.leasing.settle(GROUP, ANN, ORDERS, [settlement])
            after = (await broker.groups.get(GROUP)).status.group.members[ANN].expires
            assert after > before
            before = after


async def test_leases_of_who_fell_silent_hold_a_group_until_they_run_out(tmp_path: Path) -> None:
    """Nobody would ever settle those of a member that died: the group could never be reset or read the other way."""
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await lease(broker)
        await broker.leasing._parts.ask(DropSilent(broker.awake() + SESSION_SECONDS))
        told = "no member is alive, but 1 messages are leased for up to 10 s more"
        with pytest.raises(GroupActive, match=told):
            await broker.groups.reset(Reset(GROUP, ORDERS, Edge.LATEST))
        with pytest.raises(GroupActive, match=told):
            await broker.groups.delete(GROUP)
        with pytest.raises(ModeConflict, match=told):
            await broker.groups.beat(beat())
        clock.now_ms += LEASE_MS
        assert (await broker.groups.reset(Reset(GROUP, ORDERS, Edge.LATEST))).after[0] == 3
        await broker.groups.beat(beat())


async def test_what_is_done_is_counted_once_whatever_else_is_said_with_it(tmp_path: Path) -> None:
    async with running(tmp_path, Clock()) as broker:
        batch = await lease(broker, 3)
        actions = [Action.ACKNOWLEDGE, Action.RETRY, Action.EXTEND]
        words = [
            Settlement(batch.queues[at], [batch.offsets[at]], [batch.attempts[at]], action, 1_000)
            for at, action in enumerate(actions)
        ]
        refused = await broker.leasing.settle(GROUP, ANN, ORDERS, [*words, words[0]])
        assert len(refused) == 1
        assert (await broker.groups.get(GROUP)).status.consumed_per_second == 1.0


async def test_a_message_whose_last_lease_ran_out_is_buried_though_nobody_asks(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await broker.groups.alter(GROUP, GroupPolicy(attempts=2))
        for buried in (0, 3):
            assert len((await lease(broker, 3)).bodies) == 3
            assert await broker.burier.run_once() == 0
            clock.now_ms += LEASE_MS
            assert await broker.burier.run_once() == buried
        assert await broker.burier.run_once() == 0
        report = await broker.groups.get(GROUP)
        assert (report.dead_letters, report.status.leases) == (3, LeaseCounts())


async def test_a_queue_whose_index_is_damaged_keeps_nobody_from_being_buried(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await broker.groups.alter(GROUP, GroupPolicy(attempts=1))
        await lease(broker, 3)
        topic, _ = broker.topics.get(ORDERS)
    clock.now_ms += LEASE_MS
    (index,) = (tmp_path / "queues" / str(topic.topic_id) / "0").iterdir()
    index.write_bytes(bytes(index.stat().st_size))
    async with building(tmp_path, clock) as broker:
        assert await broker.burier.run_once() == 0


async def test_who_waits_has_room_when_what_others_had_is_buried(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await broker.groups.alter(GROUP, GroupPolicy(attempts=1, most_leased=3))
        await lease(broker, 2)
        await broker.groups.alter(GROUP, GroupPolicy(attempts=1, most_leased=2))
        waiting = asyncio.create_task(lease(broker, 3, BOB, wait_seconds=20.0))
        while BOB not in (await broker.groups.get(GROUP)).status.group.members:
            await asyncio.sleep(0)
        clock.now_ms += LEASE_MS
        assert await broker.burier.run_once() == 2
        assert (await waiting).bodies == [b"2"]


async def test_a_group_that_is_read_by_offset_now_loses_nothing_to_the_dead_letters(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as broker:
        await broker.groups.alter(GROUP, GroupPolicy(attempts=1))
        await lease(broker, 3)
        await broker.leasing._parts.ask(DropSilent(broker.awake() + SESSION_SECONDS))
        clock.now_ms += LEASE_MS
        await broker.groups.beat(beat())
        assert await broker.burier.run_once() == 0
        assert (await broker.groups.get(GROUP)).dead_letters == 0


async def test_a_look_for_messages_behind_many_gates_looks_a_few_times_where_the_group_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each gate would hold up everybody else, for seconds where a topic has a thousand queues."""
    async with running(tmp_path, Clock()) as broker:
        await lease(broker, 3)
        assert len((await broker.topics.alter(ORDERS, Alteration(write_queues=64))).gates) >= 15
        room, looks = broker.leasing._parts.engine.leasing, list[GroupName]()
        floors = room.floors

        def looked(group: GroupName) -> Mapping[QueueKey, int]:
            looks.append(group)
            return floors(group)

        monkeypatch.setattr(room, "floors", looked)
        await lease(broker)
        assert len(looks) < 10


async def test_messages_that_are_still_read_for_somebody_who_goes_are_for_others_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def read(*given: object) -> object:
        begun.set()
        may_end.wait()
        return read_records(*given)  # type: ignore[arg-type]

    async with running(tmp_path, Clock()) as broker:
        monkeypatch.setattr(leasing, "read_records", read)
        asking = asyncio.create_task(lease(broker, 3))
        await asyncio.to_thread(begun.wait)
        asking.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len((await lease(broker, 3, BOB)).bodies) == 3


async def test_a_batch_that_is_cut_off_on_its_way_is_for_others_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, Clock()) as broker:
        wanted = WantedLease(GROUP, ANN, ORDERS, 3, LEASE_MS, 0.0, frozenset(), Edge.EARLIEST)
        batch = await broker.leasing.lease(wanted)
        with pytest.raises(asyncio.CancelledError):
            async with broker.leasing.on_its_way(wanted, batch):
                raise asyncio.CancelledError
        assert len((await lease(broker, 3, BOB)).bodies) == 3


async def test_words_of_a_group_that_there_is_not_are_refused_and_make_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, Clock()) as broker:
        words = [Settlement(0, [0], [1], Action.GIVE_UP), Settlement(0, [1], [1 << 20], Action.RETRY)]
        assert len(await broker.leasing.settle(GROUP, ANN, ORDERS, words)) == 2
        assert [topic.name for topic, _ in broker.topics.list()] == [ORDERS]
