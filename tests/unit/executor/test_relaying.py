"""Listeners that publish, and listeners that say how many messages are done: what they tell the broker, and when."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from broker.client.message import Batch, Message, ReceivedMessage
from broker.model import Mode
from executor.app import Executor
from executor.errors import BadCursor, BadHandler, BadReturn, Fail, Retry
from executor.model import Handled
from executor.registry import Function, Listener
from executor.running.listening.listening import Listening
from executor.running.listening.relaying import Source
from executor.running.listening.verdicts import Done, Partly, Verdict, verdict_of
from tests.support.relay_world import TOO_LATE, World, WorldMember
from tests.unit.executor.test_listening import FakeGroups, a_batch, a_message, finish_after, listening

pytestmark = pytest.mark.anyio

AN_HOUR = timedelta(hours=1)


def a_relay(function: Function, *, one: bool = False, slots: int = 8) -> Listener:
    is_async = asyncio.iscoroutinefunction(function)
    return Listener(("in",), "g", function, is_async, one, Mode.OFFSET, slots, 100, to="out")


async def relay(world: World, function: Function, *, one: bool = False) -> None:
    """Until all is committed."""
    running = Listening(a_relay(function, one=one), world)
    task = asyncio.create_task(running.run())
    async with asyncio.timeout(30):
        while world.committed < len(world.inputs):
            await asyncio.sleep(0)
        running.stop()
        await task


def numbers(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_a_generator_yields_is_published(is_async: bool) -> None:
    world = World(numbers(20))

    def plain(messages: list[ReceivedMessage]) -> Iterator[Message]:
        yield from (Message(message.body) for message in messages)

    async def awaited(messages: list[ReceivedMessage]) -> Iterator[Message]:
        return plain(messages)

    await relay(world, awaited if is_async else plain)
    assert world.out == world.inputs


async def test_several_publishes_are_under_way_at_a_time_and_none_for_nothing() -> None:
    world = World(numbers(200))

    async def listen(message: ReceivedMessage) -> Message | None:
        return Message(message.body) if int(message.body) % 2 else None

    await relay(world, listen, one=True)
    assert world.out == world.inputs[1::2]
    assert world.publishes == 100
    assert world.most_under_way > 1


async def test_a_generation_opens_its_producer_once_and_again_behind_a_refusal() -> None:
    world, generation = World(numbers(20)), 1 << 32

    async def listen(message: ReceivedMessage) -> Message:
        return Message(TOO_LATE if message.body == b"7" and message.attempt == 1 else message.body)

    await relay(world, listen, one=True)
    assert world.openings == [generation, generation + 1]
    assert (world.out, world.dead) == (world.inputs, [])


async def test_a_member_of_a_group_that_was_made_anew_outbids_the_terms_of_the_old_one() -> None:
    world = World(numbers(5), term=(7 << 32) + 3)
    await relay(world, lambda messages: [Message(message.body) for message in messages])
    assert world.openings == [1 << 32, (7 << 32) + 4]
    assert world.out == world.inputs


async def test_an_owner_is_not_outbid_by_who_owned_the_queue_before_and_outbids_the_same_term(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, commit = World(numbers(5), term=7 << 32), WorldMember.commit

    async def commit_late(member: WorldMember, batch: Batch, before: int | None = None) -> None:
        await commit(member, batch, before)
        if world.openings == [1 << 32]:  # the one before knew that term too, and has just opened with the next
            world.term += 1

    monkeypatch.setattr(WorldMember, "commit", commit_late)
    await relay(world, lambda messages: [Message(message.body) for message in messages])
    assert world.openings == [1 << 32, (7 << 32) + 1, (7 << 32) + 2]
    assert world.out == world.inputs


async def test_an_owner_that_is_fenced_leaves_the_queue_to_the_next_one() -> None:
    world, has_begun, go_on = World(numbers(5)), asyncio.Event(), asyncio.Event()

    async def slow(messages: list[ReceivedMessage]) -> list[Message]:
        has_begun.set()
        await go_on.wait()
        return [Message(b"too late")]

    late = Listening(a_relay(slow), world)
    task = asyncio.create_task(late.run())
    async with asyncio.timeout(30):
        await has_begun.wait()
        await relay(world, lambda messages: [Message(message.body) for message in messages])
        go_on.set()
        late.stop()
        await task
    assert world.out == world.inputs


def a_source(topic_id: int = 1) -> Source:
    return Source("g", "in", 3, 2, topic_id, "out")


def test_the_cursor_says_how_far_the_queue_of_this_topic_is_read() -> None:
    source = a_source()
    assert source.producer_id == "group/g/in/3"
    assert source.published(source.cursor(42)) == 42
    assert (source.published(None), source.published(b""), a_source(2).published(source.cursor(42))) == (0, 0, 0)
    with pytest.raises(BadCursor):
        source.published(b"elsewhere")


MESSAGE = Message(b"x")


@pytest.mark.parametrize(
    ("returned", "given", "publishes", "verdict"),
    [
        (None, 1, True, Done()),
        (MESSAGE, 1, True, Done((MESSAGE,))),
        ([MESSAGE], 1, True, Done((MESSAGE,))),
        ([7], 1, False, Done()),
        (Handled(0), 2, False, Partly(0, timedelta(0))),
        (Handled(1, after=2), 2, False, Partly(1, timedelta(seconds=2))),
        (Handled(1, MESSAGE, AN_HOUR), 2, True, Partly(1, AN_HOUR, (MESSAGE,))),
        (Handled(2, after=AN_HOUR), 2, False, Done()),
    ],
)
def test_what_is_returned_is_understood(returned: object, given: int, publishes: bool, verdict: Verdict) -> None:
    assert verdict_of(returned, given, publishes=publishes) == verdict


@pytest.mark.parametrize(
    ("returned", "publishes", "reason"),
    [
        ("text", True, "a Message, several of them, or None"),
        (b"bytes", True, "a Message, several of them, or None"),
        (7, True, "of the type int"),
        ([MESSAGE, "text"], True, "number 1"),
        (Handled(-1), False, "between 0 and the 2"),
        (Handled(3), False, "between 0 and the 2"),
        (Handled("1"), False, "between 0 and the 2"),  # type: ignore[arg-type]
        (Handled(1, after=-1), False, "after seconds or a timedelta"),
        (Handled(1, after="soon"), False, "after seconds or a timedelta"),  # type: ignore[arg-type]
        (Handled(1, MESSAGE), False, "only a listener with to="),
        (Handled(0, MESSAGE), True, "no message that it could publish for"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_sentence(returned: object, publishes: bool, reason: str) -> None:
    with pytest.raises(BadReturn, match=reason):
        verdict_of(returned, 2, publishes=publishes)


def test_a_wait_that_is_no_number_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Handled(0, after=math.nan)


def test_what_was_received_is_passed_on_to_where_the_listener_publishes() -> None:
    received = ReceivedMessage(b"x", "k", "tag", {"p": "v"}, "in", datetime.now(UTC), True, offset=7)
    assert verdict_of(received, 1, publishes=True) == Done((Message(b"x", "k", "tag", {"p": "v"}, ordered=True),))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"to": "out"}, 'needs mode="offset"'),
        ({"to": "", "mode": "offset"}, "name of a topic"),
        ({"to": 7, "mode": "offset"}, "name of a topic"),
        ({"to": "out", "mode": "offset", "group": "g" * 120, "topic": "t" * 120}, "236 characters"),
    ],
)
def test_a_listener_that_cannot_publish_is_refused(options: dict[str, object], reason: str) -> None:
    given = {"topic": "in", "group": "g", **options}
    with pytest.raises(BadHandler, match=reason):
        Executor("group").consumer(str(given.pop("topic")), **given)  # type: ignore[arg-type]


async def test_by_offset_the_rest_comes_again_and_no_attempt_is_counted() -> None:
    groups, seen = FakeGroups([a_batch(0, *numbers(6))]), list[Sequence[tuple[int, int]]]()

    async def listen(messages: list[ReceivedMessage]) -> object:
        seen.append([(message.offset, message.attempt) for message in messages])
        match len(seen):
            case 1:
                return Handled(2)
            case 2 | 3 | 4 | 5:
                return Handled(0, after=0.001)
            case 6:
                raise Fail("never")  # narrowed to the first of four
        if messages[0].offset == 2:
            raise RuntimeError("not yet" if len(messages) == 1 else "nor these")
        return None

    await finish_after(groups, listening(groups, listen), lambda: 6 in groups.committed)
    rest = [(n, 1) for n in range(2, 6)]
    assert seen[:8] == [[(n, 1) for n in range(6)], *([rest] * 5), rest[:2], rest[:1]]
    assert seen[8:] == [[(2, 2)], [(2, 3)], rest[1:2], rest[2:]]
    assert groups.given_up == [(2, 3, "RuntimeError: not yet")]
    assert groups.committed[:2] == [2, 2]


async def test_by_offset_progress_begins_the_count_of_attempts_anew() -> None:
    groups, seen = FakeGroups([a_batch(0, *numbers(2))]), list[Sequence[tuple[int, int]]]()

    async def listen(messages: list[ReceivedMessage]) -> object:
        seen.append([(message.offset, message.attempt) for message in messages])
        return steps[len(seen) - 1]

    steps = [Retry(after=0), Handled(0), Handled(1), Retry(after=0), Retry(after=0), None]
    await finish_after(groups, listening(groups, listen), lambda: 2 in groups.committed)
    both, second = [[(0, n), (1, n)] for n in (1, 2)], [[(1, n)] for n in (1, 2, 3)]
    assert seen == [both[0], both[1], both[1], *second]


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_call_that_waits_for_its_rest_leaves_its_slot_to_others(mode: Mode) -> None:
    groups = FakeGroups([a_batch(0, b"wait"), a_batch(0, queue=1)], leased=[[a_message(0, b"wait")], [a_message(1)]])

    async def listen(messages: list[ReceivedMessage]) -> object:
        return Handled(0, after=AN_HOUR) if messages[0].body == b"wait" else None

    def is_done() -> bool:
        return 1 in groups.committed if mode is Mode.OFFSET else ("acknowledge", [1]) in groups.told

    await finish_after(groups, listening(groups, listen, mode=mode, slots=1), is_done)
    if mode is Mode.LEASE:
        assert groups.told == [("acknowledge", [1]), ("give back", [0])]
    else:
        assert groups.committed == [0, 1, 0], "before the wait, the other queue, and as it stops"


async def test_by_lease_what_is_done_is_acknowledged_and_the_rest_is_called_again() -> None:
    groups, seen = FakeGroups(leased=[[a_message(n, attempt=4) for n in range(5)]]), list[Sequence[tuple[int, int]]]()

    async def listen(messages: list[ReceivedMessage]) -> object:
        seen.append([(message.offset, message.attempt) for message in messages])
        return Handled(2, after=0) if len(messages) > 1 else Handled(0) if len(seen) < 2_000 else None

    await finish_after(groups, listening(groups, listen, mode=Mode.LEASE), lambda: len(groups.told) == 3)
    assert groups.told == [("acknowledge", [0, 1]), ("acknowledge", [2, 3]), ("acknowledge", [4])]
    assert len(seen) == 2_000
    assert seen[-1] == [(4, 4)]


async def test_by_lease_what_waits_keeps_its_lease() -> None:
    groups, lease = FakeGroups(leased=[[a_message(0), a_message(1)]]), timedelta(milliseconds=3)

    async def listen(messages: list[ReceivedMessage]) -> object:
        return Handled(1, after=AN_HOUR) if len(messages) == 2 else None

    listener = Listener(("t",), "group", listen, True, False, Mode.LEASE, 1, 2, lease=lease)
    await finish_after(groups, Listening(listener, groups), lambda: ("extend", [1], lease) in groups.told)
    assert [told for told in groups.told if told[0] != "extend"] == [("acknowledge", [0]), ("give back", [1])]  # type: ignore[index]


async def test_by_offset_a_list_that_was_to_come_again_and_then_fails_is_narrowed() -> None:
    groups, seen = FakeGroups([a_batch(0, b"a", b"b")]), list[Sequence[tuple[int, int]]]()

    async def listen(messages: list[ReceivedMessage]) -> None:
        seen.append([(message.offset, message.attempt) for message in messages])
        if len(seen) == 1:
            raise Retry(after=0)
        if any(message.body == b"b" for message in messages):
            raise RuntimeError("no")

    await finish_after(groups, listening(groups, listen), lambda: 2 in groups.committed)
    assert seen == [[(0, 1), (1, 1)], [(0, 2), (1, 2)], [(0, 2)], [(1, 2)], [(1, 3)]]
    assert groups.given_up == [(1, 3, "RuntimeError: no")]
