"""Consumer groups over real gRPC: modes, starts, resets, deletion, what is told of them, and filters on fetch."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from broker.client import GroupClient, Message, Producer, TopicClient
from broker.errors import (
    BadRequest,
    GroupActive,
    ModeConflict,
    NotOwner,
    OffsetOutOfRange,
    OffsetsMoved,
    UnknownGroup,
    UnknownTopic,
)
from broker.model import Exponential, GroupPolicy, Mode
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed

pytestmark = pytest.mark.anyio

SESSION_MS = 60_000


@dataclass
class House:
    """A broker and everything that is asked of it here; topic t has two queues."""

    topics: TopicClient
    groups: GroupClient
    producer: Producer
    stub: BrokerServiceStub

    async def publish(self, *tags: str, key: str = "k") -> int:
        """Stores messages with these tags in one queue, and returns which."""
        receipts = await self.producer.publish_batch("t", [Message(tag.encode(), tag=tag, key=key) for tag in tags])
        return receipts[0].queue

    async def beat(self, member: str = "m", **given: object) -> pb.BeatGroupResponse:
        fixed = {"group": "g", "member_id": member, "topics": ["t"], "session_timeout_ms": SESSION_MS}
        return await self.stub.BeatGroup(pb.BeatGroupRequest(**{**fixed, **given}))

    async def leave(self, member: str = "m") -> None:
        await self.stub.LeaveGroup(pb.LeaveGroupRequest(group="g", member_id=member))

    async def commit(self, claim: pb.Claim, offset: int, member: str = "m") -> None:
        commits = [pb.OffsetCommit(claim=claim, offset=offset)]
        await self.stub.Commit(pb.CommitRequest(group="g", member_id=member, commits=commits))

    async def lease(self, member: str = "m", start: pb.Start.ValueType = pb.START_EARLIEST) -> pb.LeaseResponse:
        request = pb.LeaseRequest(group="g", member_id=member, topic="t", lease_ms=60_000, start=start)
        return await self.stub.Lease(request)

    async def settle(self, given: pb.LeaseResponse, action: pb.Action.ValueType, member: str = "m") -> None:
        leased = given.messages
        rows = zip(leased.queues, leased.offsets, leased.attempts, strict=True)
        settlements = [pb.Settlement(queue=q, offsets=[at], attempts=[n], action=action) for q, at, n in rows]
        request = pb.SettleRequest(group="g", member_id=member, topic="t", settlements=settlements)
        assert not (await self.stub.Settle(request)).refused

    async def committed(self) -> list[int]:
        return [queue.committed for queue in (await self.groups.get("g")).queues]


@asynccontextmanager
async def housed(data: Path) -> AsyncIterator[House]:
    async with (
        asyncio.timeout(30),
        running_broker(data) as endpoint,
        dial(endpoint) as channel,
        TopicClient(endpoint) as topics,
        GroupClient(endpoint) as groups,
        Producer(endpoint) as producer,
    ):
        await topics.create("t", 2)
        yield House(topics, groups, producer, BrokerServiceStub(channel))


@contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    with pytest.raises(error), renamed("the broker"):
        yield


def claim_of(answer: pb.BeatGroupResponse, queue: int) -> pb.Claim:
    (claim,) = [owned.claim for owned in answer.owned if owned.claim.queue == queue]
    return claim


def offsets_of(answer: pb.BeatGroupResponse) -> list[int]:
    return [owned.offset for owned in sorted(answer.owned, key=lambda owned: owned.claim.queue)]


async def test_a_policy_is_kept_and_makes_the_group(tmp_path: Path) -> None:
    policy = GroupPolicy(3, Exponential(100, 5_000, 2.0), 50.0, 20)
    async with housed(tmp_path) as house:
        with refused(UnknownGroup):
            await house.groups.get("g")
        assert await house.groups.alter("g", policy) == policy
        with refused(BadRequest):
            await house.groups.alter("g", GroupPolicy(attempts=1_001))
    async with housed(tmp_path) as house:
        state = await house.groups.get("g")
        assert (state.policy, state.mode, state.queues) == (policy, None, ())
        assert await house.groups.list() == ("g",)
        await house.beat()
        assert (await house.groups.get("g")).policy == policy


async def test_a_group_begins_where_it_is_told_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b")
        (first,) = [r.published_at_ms for r in [await house.stub.Fetch(pb.FetchRequest(topic="t", queue=queue))]]
        starts = {
            "earliest": pb.BeatGroupRequest(start=pb.START_EARLIEST),
            "latest": pb.BeatGroupRequest(start=pb.START_LATEST),
            "before": pb.BeatGroupRequest(start=pb.START_TIMESTAMP, start_at_ms=first[0]),
            "after": pb.BeatGroupRequest(start=pb.START_TIMESTAMP, start_at_ms=first[1] + 1),
        }
        begun = {
            name: offsets_of(await house.beat(group=name, start=given.start, start_at_ms=given.start_at_ms))[queue]
            for name, given in starts.items()
        }
        assert begun == {"earliest": 0, "latest": 2, "before": 0, "after": 2}
        again = await house.beat(group="latest", start=pb.START_EARLIEST)
        assert offsets_of(again)[queue] == 2


async def test_what_is_told_of_a_group(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b", "c")
        found = await house.stub.Fetch(pb.FetchRequest(topic="t", queue=queue))
        await house.commit(claim_of(await house.beat(), queue), 1)
        state = await house.groups.get("g")
        (member,) = state.members
        assert (state.mode, member.member_id, member.topics, state.lag) == (Mode.OFFSET, "m", ("t",), 2)
        lag = state.queues[queue]
        assert (lag.owner, lag.committed, lag.lowest, lag.end, lag.lag) == ("m", 1, 0, 3, 2)
        assert lag.oldest_unread_at is not None
        assert lag.oldest_unread_at.timestamp() == pytest.approx(found.published_at_ms[1] / 1_000)
        assert state.queues[1 - queue].oldest_unread_at is None
        assert state.consumed_per_second > 0
        assert (state.leased, state.waiting, state.dead_letters) == (0, 0, 0)


async def test_a_reset_is_previewed_compared_and_refused_while_somebody_reads(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b", "c")
        claim = claim_of(await house.beat(), queue)
        await house.commit(claim, 3)
        preview = await house.groups.preview_reset("g", "t", "earliest")
        assert (preview.before[queue], [*preview.after]) == (3, [0, 0])
        with refused(GroupActive):
            await house.groups.reset("g", "t", "earliest", expected=preview.before)
        await house.leave()
        with refused(OffsetsMoved):
            await house.groups.reset("g", "t", "earliest", expected=preview.after)
        assert await house.committed() == [*preview.before]
        assert await house.groups.reset("g", "t", "earliest", expected=preview.before) == preview
        assert await house.committed() == [0, 0]
        with refused(NotOwner):
            await house.commit(claim, 3)
    async with housed(tmp_path) as house:
        assert await house.committed() == [0, 0]


async def test_a_forced_reset_takes_the_queues_and_gives_them_anew(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b", "c")
        old = claim_of(await house.beat(), queue)
        await house.commit(old, 2)
        await house.groups.reset("g", "t", "latest", force=True)
        with refused(NotOwner):
            await house.commit(old, 3)
        answer = await house.beat()
        assert (offsets_of(answer)[queue], claim_of(answer, queue).generation > old.generation) == (3, True)


@pytest.mark.parametrize(
    ("to", "refusal"),
    [([0], BadRequest), ([0, 0, 0], BadRequest), ([99, 99], OffsetOutOfRange), ("sometime", BadRequest)],
)
async def test_a_reset_to_nowhere_is_refused(tmp_path: Path, to: Sequence[int], refusal: type[Exception]) -> None:
    async with housed(tmp_path) as house:
        await house.groups.alter("g", GroupPolicy())
        with refused(refusal):
            await house.groups.reset("g", "t", to)


async def test_what_is_not_there_is_neither_reset_nor_deleted(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        for call in (house.groups.delete("g"), house.groups.reset("g", "t", "latest")):
            with refused(UnknownGroup):
                await call
        with refused(UnknownTopic):
            await house.groups.reset("g", "nothing", "latest")
        with refused(BadRequest):
            await house.stub.ResetOffsets(pb.ResetOffsetsRequest(group="g", topic="t"))


async def test_a_group_is_deleted_once_nobody_reads_in_it(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a")
        await house.commit(claim_of(await house.beat(), queue), 1)
        with refused(GroupActive):
            await house.groups.delete("g")
        await house.leave()
        await house.groups.delete("g")
        assert await house.groups.list() == ()
    async with housed(tmp_path) as house:
        assert await house.groups.list() == ()
        assert offsets_of(await house.beat()) == [0, 0]


async def test_a_group_is_read_one_way_at_a_time_and_goes_on_where_it_stands(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b", "c")
        await house.commit(claim_of(await house.beat(), queue), 1)
        with refused(ModeConflict):
            await house.lease()
        await house.leave()
        leased = await house.lease()
        assert [*leased.messages.bodies] == [b"b", b"c"]
        state = await house.groups.get("g")
        assert (state.mode, state.leased, state.queues[queue].committed) == (Mode.LEASE, 2, 1)
        for call, refusal in ((house.beat(), ModeConflict), (house.groups.delete("g"), GroupActive)):
            with refused(refusal):
                await call
        await house.settle(leased, pb.ACTION_ACKNOWLEDGE)
        await house.leave()
        assert offsets_of(await house.beat())[queue] == 3
        assert (await house.groups.get("g")).mode is Mode.OFFSET


async def test_a_reset_makes_leases_void(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b")
        await house.settle(await house.lease(), pb.ACTION_ACKNOWLEDGE)
        assert (await house.committed())[queue] == 2
        await house.groups.reset("g", "t", "earliest", force=True)
        assert (await house.committed())[queue] == 0
        assert [*(await house.lease()).messages.bodies] == [b"a", b"b"]
    async with housed(tmp_path) as house:
        assert (await house.groups.get("g")).leased == 2


async def test_a_fetch_with_tags_looks_through_the_queue_and_waits_at_its_end(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b", "a", "c")

        def wanted(offset: int, wait_ms: int = 0) -> pb.FetchRequest:
            return pb.FetchRequest(topic="t", queue=queue, offset=offset, wait_ms=wait_ms, tags=["b", "c"])

        found = await house.stub.Fetch(wanted(0))
        assert ([*found.bodies], [*found.offsets], found.next_offset) == ([b"b", b"c"], [1, 3], 4)
        nothing = await house.stub.Fetch(pb.FetchRequest(topic="t", queue=queue, tags=["x"]))
        assert ([*nothing.bodies], nothing.next_offset, nothing.end_offset) == ([], 4, 4)
        waiting: grpc.aio.UnaryUnaryCall = house.stub.Fetch(wanted(4, wait_ms=20_000))  # type: ignore[assignment]
        await house.publish("a")
        await house.publish("b")
        late = await waiting
        assert ([*late.bodies], late.first_offset, late.next_offset) == ([b"b"], 5, 6)


async def test_an_unfiltered_fetch_tells_where_to_go_on(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        queue = await house.publish("a", "b")
        request = pb.FetchRequest(topic="t", queue=queue, max_messages=1)
        found = await house.stub.Fetch(request)
        assert (found.next_offset, [*found.offsets]) == (1, [])


async def test_a_queue_that_came_later_is_read_from_its_beginning_also_by_lease(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        await house.publish("old")
        assert not (await house.lease(start=pb.START_LATEST)).messages.bodies
        await house.topics.alter("t", write_queues=4, read_queues=4)
        keys = ("k", "l", "m", "n", "o", "p")
        queues = {await house.publish(key, key=key) for key in keys}
        assert queues & {2, 3}
        assert {*(await house.lease(start=pb.START_LATEST)).messages.bodies} == {key.encode() for key in keys}


async def test_what_is_in_a_queue_that_came_later_is_unread_before_anybody_has_it(tmp_path: Path) -> None:
    async with housed(tmp_path) as house:
        await house.beat()
        await house.topics.alter("t", write_queues=4, read_queues=4)
        keys = ("k", "l", "m", "n", "o", "p")
        queues = {await house.publish(key, key=key) for key in keys}
        assert queues & {2, 3}
        state = await house.groups.get("g")
        assert (state.lag, {queue.queue for queue in state.queues if not queue.owner}) == (len(keys), {2, 3})
