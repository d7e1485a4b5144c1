"""Leases over real gRPC: one member at a time, attempts that outlive a restart, dead letters, keys in order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.broker import Broker
from broker.client import Message, Producer
from broker.daemon import build, wall_clock
from broker.errors import BadRequest, ModeConflict, NotOwner
from broker.face.consuming.leasing import WantedLease
from broker.model import Edge, GroupName, GroupPolicy, MemberId, Steps, TopicName
from broker.policies import from_group_policy
from broker.settings import BrokerSettings
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed

pytestmark = pytest.mark.anyio

GROUP, TOPIC, DEAD = "readers", "orders", "%DLQ%readers"


class Clock:
    """The wall clock, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead_ms


class Peer:
    """A broker and what a test asks it."""

    def __init__(self, endpoint: str, stub: BrokerServiceStub, clock: Clock, broker: Broker) -> None:
        self.endpoint = endpoint
        self.broker = broker
        self.stub = stub
        self.clock = clock

    async def publish(self, *messages: Message) -> None:
        async with Producer(self.endpoint) as producer:
            await producer.publish_batch(TOPIC, messages)

    async def lease(
        self, member: str = "ann", count: int = 100, *, wait_ms: int = 0, tags: Sequence[str] = (), topic: str = TOPIC
    ) -> pb.LeasedMessages:
        request = pb.LeaseRequest(
            group=GROUP, member_id=member, topic=topic, max_messages=count, wait_ms=wait_ms, tags=tags
        )
        with renamed(self.endpoint):
            return (await self.stub.Lease(request, timeout=20)).messages

    async def settle(
        self, action: pb.Action.ValueType, messages: pb.LeasedMessages, member: str = "ann", **given: object
    ) -> list[str]:
        """The codes of what was refused."""
        each = zip(messages.queues, messages.offsets, messages.attempts, strict=True)
        settlements = [
            pb.Settlement(queue=queue, offsets=[offset], attempts=[attempt], action=action, **given)  # type: ignore[arg-type]
            for queue, offset, attempt in each
        ]
        request = pb.SettleRequest(group=GROUP, member_id=member, topic=TOPIC, settlements=settlements)
        return [refused.refusal.code for refused in (await self.stub.Settle(request, timeout=20)).refused]

    async def dead_letters(self) -> pb.FetchResponse:
        return await self.stub.Fetch(pb.FetchRequest(topic=DEAD), timeout=20)

    async def alter(self, **given: object) -> None:
        policy = from_group_policy(GroupPolicy(**given))  # type: ignore[arg-type]
        await self.stub.AlterGroup(pb.AlterGroupRequest(group=GROUP, policy=policy), timeout=20)


@asynccontextmanager
async def running(data: Path, clock: Clock | None = None) -> AsyncIterator[Peer]:
    clock = clock or Clock()
    settings = BrokerSettings.from_env(data=data, port=0)
    async with asyncio.timeout(30), build(settings, clock=clock) as house:
        serving = asyncio.create_task(house.run())
        endpoint = house.endpoints["grpc"]
        try:
            async with dial(endpoint) as channel:
                yield Peer(endpoint, BrokerServiceStub(channel), clock, house.broker)
        finally:
            house.stop()
            await serving


def some(count: int, key: str | None = None, **given: object) -> list[Message]:
    return [Message(b"%d" % number, key=key, **given) for number in range(count)]  # type: ignore[arg-type]


def numbers(messages: pb.LeasedMessages | pb.FetchResponse) -> list[int]:
    return [int(body) for body in messages.bodies]


async def test_a_message_goes_to_one_member_only(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(50))
        parts = await asyncio.gather(*(peer.lease(f"member-{number}", 10) for number in range(8)))
    assert sorted(number for part in parts for number in numbers(part)) == [*range(50)]


async def test_all_that_a_message_has_arrives(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(Message(b"1", key="k", tag="t", properties={"a": "b"}), Message(b"2"))
        messages = await peer.lease()
    at = numbers(messages).index(1)
    assert (messages.keys[at], messages.tags[at], messages.attempts[at]) == ("k", "t", 1)
    (attributes,) = messages.attributes
    assert (attributes.index, dict(attributes.properties)) == (at, {"a": "b"})


async def test_a_long_poll_wakes_when_something_is_published(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(1))
        await peer.lease()
        waiting = asyncio.create_task(peer.lease(wait_ms=20_000))
        await peer.publish(*some(1))
        assert numbers(await waiting) == [0]


async def test_a_long_poll_wakes_when_a_message_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(1))
        held = await peer.lease("ann")
        waiting = asyncio.create_task(peer.lease("bob", wait_ms=20_000))
        assert await peer.settle(pb.ACTION_RETURN, held) == []
        back = await waiting
        assert (numbers(back), [*back.attempts]) == ([0], [2])
        waiting = asyncio.create_task(peer.lease("ann", wait_ms=20_000))
        assert await peer.settle(pb.ACTION_RETRY, back, "bob", after_ms=1) == []
        assert [*(await waiting).attempts] == [3]


async def test_a_lease_that_runs_out_goes_to_another_and_the_late_word_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(1))
        held = await peer.lease("ann")
        peer.clock.ahead_ms = 31_000
        assert await peer.settle(pb.ACTION_ACKNOWLEDGE, held, "ann") == ["lease_expired"]
        again = await peer.lease("bob")
        assert [*again.attempts] == [2]
        assert await peer.settle(pb.ACTION_ACKNOWLEDGE, held, "ann") == ["lease_expired"]
        assert await peer.settle(pb.ACTION_ACKNOWLEDGE, again, "bob") == []


async def test_a_restart_keeps_leases_and_attempts(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as peer:
        await peer.publish(*some(3, key="k"))
        first = await peer.lease("ann", 1)
        assert await peer.settle(pb.ACTION_RETRY, first, after_ms=0) == []
        held = await peer.lease("ann", 2)
    async with running(tmp_path, clock) as peer:
        assert len(numbers(await peer.lease("bob"))) == 1
        assert await peer.settle(pb.ACTION_ACKNOWLEDGE, held) == []
        clock.ahead_ms = 31_000
        assert [*(await peer.lease("bob")).attempts] == [2]


async def test_a_message_that_fails_too_often_is_a_dead_letter_with_all_that_is_known(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.alter(attempts=2, backoff=Steps((0,)))
        await peer.publish(Message(b"0", key="k", tag="t", properties={"a": "b"}))
        for _ in range(2):
            held = await peer.lease()
            assert await peer.settle(pb.ACTION_RETRY, held, error="no such order") == []
        assert numbers(await peer.lease()) == []
        dead = await peer.dead_letters()
    (attributes,) = dead.attributes
    told = {name.removeprefix("dead-letter-"): value for name, value in attributes.properties.items()}
    assert (numbers(dead), [*dead.keys], [*dead.tags], told["a"]) == ([0], ["k"], ["t"], "b")
    assert (told["topic"], told["offset"], told["attempts"], told["error"]) == (TOPIC, "0", "2", "no such order")
    assert (told["queue"], told["message-id"].split("-")[2]) == (str(held.queues[0]), f"{held.queues[0]:x}")


async def test_who_never_answers_sends_a_message_to_the_dead_letters_too(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.alter(attempts=2)
        await peer.publish(*some(1))
        for turn in range(2):
            peer.clock.ahead_ms = 31_000 * turn
            assert numbers(await peer.lease()) == [0]
        peer.clock.ahead_ms = 31_000 * 2
        assert numbers(await peer.lease()) == []
        assert numbers(await peer.dead_letters()) == [0]


async def test_the_messages_of_a_key_come_one_at_a_time_while_others_flow_on(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        ordered = [Message(b"%d" % number, key="k", ordered=True) for number in range(3)]
        await peer.publish(*ordered, Message(b"7", key="k"), Message(b"8"))
        first = await peer.lease()
        assert sorted(numbers(first)) == [0, 7, 8]
        await peer.settle(pb.ACTION_ACKNOWLEDGE, first)
        for number in (1, 2):
            then = await peer.lease()
            assert numbers(then) == [number]
            await peer.settle(pb.ACTION_ACKNOWLEDGE, then)


async def test_only_the_wanted_tags_are_handed_out(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*(Message(b"%d" % number, tag="ab"[number % 2]) for number in range(10)))
        assert sorted(numbers(await peer.lease(tags=["b"]))) == [1, 3, 5, 7, 9]
        assert numbers(await peer.lease(tags=["b", "c"])) == []


async def test_dead_letters_are_sent_again_once_and_are_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(5, key="k", properties={"a": "b"}))
        held = await peer.lease()
        await peer.settle(pb.ACTION_GIVE_UP, held, error="no")
        resend = pb.ResendDeadLettersRequest(group=GROUP, offsets=[1, 3])
        assert (await peer.stub.ResendDeadLetters(resend)).resent == 2
        assert numbers(await peer.dead_letters()) == [0, 2, 4]
        resend = pb.ResendDeadLettersRequest(group=GROUP, max_messages=2)
        answer = await peer.stub.ResendDeadLetters(resend)
        assert (answer.resent, answer.next_offset) == (2, 4)
        again = await peer.lease()
        assert numbers(again) == [1, 3, 0, 2]
        assert {tuple(each.properties) for each in again.attributes} == {("a",)}
    async with running(tmp_path) as peer:
        assert numbers(await peer.dead_letters()) == [4]
        described = await peer.stub.GetTopic(pb.GetTopicRequest(name=f"%DLQ%{GROUP}"))
        assert (described.topic.messages, described.topic.queues[0].end_offset) == (1, 5)
        assert (await peer.stub.PurgeDeadLetters(pb.PurgeDeadLettersRequest(group=GROUP))).purged == 1
        assert numbers(await peer.dead_letters()) == []


async def test_a_group_is_read_one_way_at_a_time(tmp_path: Path) -> None:
    beat = pb.BeatGroupRequest(group=GROUP, member_id="m", topics=[TOPIC], session_timeout_ms=10_000)
    async with running(tmp_path / "lease") as peer:
        await peer.lease()
        with pytest.raises(ModeConflict), renamed(peer.endpoint):
            await peer.stub.BeatGroup(beat)
    async with running(tmp_path / "offset") as peer:
        await peer.stub.BeatGroup(beat)
        with pytest.raises(ModeConflict):
            await peer.lease()


async def test_only_who_owns_a_queue_gives_its_messages_up(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(8))
        beat = pb.BeatGroupRequest(group=GROUP, member_id="m", topics=[TOPIC], session_timeout_ms=10_000)
        owned = (await peer.stub.BeatGroup(beat)).owned
        claim = next(each.claim for each in owned if each.claim.queue == 1)
        given = pb.GiveUpRequest(group=GROUP, member_id="m", claim=claim, offsets=[1], attempts=4, error="no")
        await peer.stub.GiveUp(given)
        dead = await peer.dead_letters()
        assert dict(dead.attributes[0].properties)["dead-letter-attempts"] == "4"
        for beyond in (2, 1 << 40):
            with pytest.raises(BadRequest), renamed(peer.endpoint):
                await peer.stub.GiveUp(pb.GiveUpRequest(group=GROUP, member_id="m", claim=claim, offsets=[beyond]))
        given.member_id = "another"
        with pytest.raises(NotOwner), renamed(peer.endpoint):
            await peer.stub.GiveUp(given)


async def test_a_group_tells_what_it_has_and_how_fast_it_reads(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.publish(*some(5, key="k"))
        first = await peer.lease("ann", 3)
        await peer.settle(pb.ACTION_ACKNOWLEDGE, first)
        await peer.settle(pb.ACTION_RETRY, await peer.lease("ann", 1), after_ms=60_000)
        await peer.lease("ann", 1)
        group = (await peer.stub.GetGroup(pb.GetGroupRequest(group=GROUP))).group
    assert (group.mode, group.leased, group.waiting) == (pb.MODE_LEASE, 1, 1)
    assert [queue.committed_offset for queue in group.queues if queue.end_offset] == [3]
    assert group.consumed_per_second > 0


async def test_no_more_than_the_group_may_hold_are_handed_out(tmp_path: Path) -> None:
    async with running(tmp_path) as peer:
        await peer.alter(most_leased=7)
        await peer.publish(*some(20))
        held = await peer.lease("ann")
        assert len(held.offsets) == 7
        assert numbers(await peer.lease("bob")) == []
        waiting = asyncio.create_task(peer.lease("bob", wait_ms=20_000))
        await peer.settle(pb.ACTION_ACKNOWLEDGE, held, "ann")
        assert len((await waiting).offsets) == 7


async def test_what_was_handed_to_somebody_who_has_gone_is_for_others_at_once(tmp_path: Path) -> None:
    def wanted(member: str) -> WantedLease:
        names = GroupName(GROUP), MemberId(member), TopicName(TOPIC)
        return WantedLease(*names, 10, 30_000, 0.0, frozenset(), Edge.EARLIEST)

    async with running(tmp_path) as peer:
        await peer.broker.leasing.lease(wanted("ann"))
        await peer.publish(*some(1))
        asking = asyncio.create_task(peer.broker.leasing.lease(wanted("ann")))
        for _ in range(3):  # its command is on its way to the writer's thread
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await peer.broker.leasing.lease(wanted("bob"))).bodies == [b"0"]
