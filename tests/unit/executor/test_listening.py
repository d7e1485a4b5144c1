"""Listeners get their messages until these are done or given up, and stop when they are told to."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest

from broker.client.message import Batch, Message, ReceivedMessage
from broker.errors import LeaseExpired, NotOwner, UnknownTopic
from broker.model import Mode
from executor.app import Executor
from executor.errors import BadHandler, Fail, Retry, Skip
from executor.registry import Function, Listener, read_listener
from executor.running.listening import listening as module
from executor.running.listening.listening import Listening
from tests.support.fake_groups import (
    NEVER,
    FakeGroups,
    OffsetMember,
    a_batch,
    a_message,
    finish,
    finish_after,
    listening,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_batch_is_committed_once_its_listener_is_done(is_async: bool) -> None:
    groups, seen = FakeGroups([a_batch(0), a_batch(1)]), []

    def listen(messages: list[Message]) -> None:
        seen.append([message.body for message in messages])

    async def awaited(messages: list[Message]) -> None:
        listen(messages)

    await finish_after(groups, listening(groups, awaited if is_async else listen), lambda: groups.committed == [1, 2])
    assert seen == [[b"x"], [b"x"]]


async def test_single_messages_are_handled_in_order_and_committed_together() -> None:
    groups, seen = FakeGroups([a_batch(0, b"a", b"b", b"c")]), []

    async def listen(message: Message) -> None:
        seen.append(message.body)

    await finish_after(groups, listening(groups, listen, one=True), lambda: groups.committed)
    assert (seen, groups.committed) == ([b"a", b"b", b"c"], [3])


async def test_by_offset_a_failing_message_is_found_tried_in_place_and_given_up() -> None:
    groups, seen = FakeGroups([a_batch(10, *(b"%d" % n for n in range(8)))]), []

    async def listen(messages: list[ReceivedMessage]) -> None:
        seen.append([(message.offset, message.attempt) for message in messages])
        if any(message.body == b"5" for message in messages):
            raise RuntimeError("no such user")

    await finish_after(groups, listening(groups, listen), lambda: 18 in groups.committed)
    assert seen == [
        [(offset, 1) for offset in range(10, 18)],
        [(offset, 1) for offset in range(10, 14)],
        [(offset, 1) for offset in range(14, 18)],
        [(14, 1), (15, 1)],
        [(14, 1)],
        [(15, 1)],
        [(15, 2)],
        [(15, 3)],
        [(16, 1), (17, 1)],
    ]
    assert groups.given_up == [(15, 3, "RuntimeError: no such user")]
    assert groups.committed == [15, 15, 15, 16, 18], "before each wait and giving up, behind that, and at the end"


@pytest.mark.parametrize("is_raised", [True, False])
async def test_by_offset_the_words_of_a_listener_are_followed(is_raised: bool) -> None:
    groups, tries = FakeGroups([a_batch(0, b"retry", b"fail", b"skip")], kept=NEVER), []

    async def listen(message: ReceivedMessage) -> object:
        tries.append(message.body)
        words = {b"retry": Retry(after=0) if len(tries) == 1 else None, b"fail": Fail("broken"), b"skip": Skip()}
        if is_raised and (word := words[message.body]) is not None:
            raise word
        return words[message.body]

    await finish_after(groups, listening(groups, listen, one=True), lambda: 3 in groups.committed)
    assert tries == [b"retry", b"retry", b"fail", b"skip"]
    assert groups.given_up == [(1, 1, "The handler gave up: broken")]


async def test_by_offset_a_queue_that_waits_holds_up_no_other_and_is_paused() -> None:
    batches = [a_batch(0, b"bad"), *(a_batch(n) for n in range(1, 4)), *(a_batch(n, queue=1) for n in range(3))]
    groups = FakeGroups(batches, kept=NEVER)

    async def listen(messages: list[ReceivedMessage]) -> None:
        if messages[0].body == b"bad":
            raise RuntimeError("wait for an hour")

    await finish_after(groups, listening(groups, listen), lambda: groups.committed.count(3) == 1)
    assert set(groups.paused) == {("t", 0)}
    assert sorted(groups.committed) == [0, 0, 1, 2, 3], "nothing of the queue that waits"


async def test_a_batch_that_went_to_another_member_does_not_stop_the_listener() -> None:
    groups = FakeGroups(
        [a_batch(0), a_batch(1)], refusal=NotOwner(member_id="m", group="g", topic="t", queue=0, generation=1)
    )
    await finish(listening(groups, lambda messages: None), groups.was_asked_for_more)
    assert groups.committed == []


@dataclass
class Loser(OffsetMember):
    """Hears at the first commit that the queue is another's, and gets one more batch of it behind that."""

    is_refused: asyncio.Event = field(default_factory=asyncio.Event)

    async def __anext__(self) -> Batch:
        if len(self.group.batches) == 1:
            await self.is_refused.wait()
        return await super().__anext__()

    async def commit(self, batch: Batch, before: int | None = None) -> None:
        if not self.is_refused.is_set():
            self.is_refused.set()
            raise NotOwner(member_id="m", group="g", topic="t", queue=0, generation=1)
        await super().commit(batch, before)


async def test_what_comes_behind_a_batch_that_was_lost_neither_is_called_with_nor_commits_it() -> None:
    groups, called = FakeGroups([a_batch(0), a_batch(1)]), list[int]()
    groups.by_offset = lambda _: groups._joined(Loser(groups))  # type: ignore[method-assign]
    await finish(listening(groups, lambda messages: called.append(messages[0].offset)), groups.was_asked_for_more)
    assert (called, groups.committed) == ([0], [])


async def test_a_listener_stops_also_while_the_broker_is_away() -> None:
    groups = FakeGroups(is_away=True)
    await finish(listening(groups, lambda messages: None), groups.is_entering)
    assert groups.committed == []


async def test_a_listener_that_is_told_to_stop_leaves_what_it_has_not_begun() -> None:
    groups, busy = FakeGroups([a_batch(0, b"a", b"b", b"c"), a_batch(3)]), asyncio.Event()

    async def listen(message: ReceivedMessage) -> None:
        busy.set()
        await asyncio.sleep(0)  # the order to stop comes meanwhile

    await finish(listening(groups, listen, one=True), busy)
    assert groups.committed == [1], "the batch behind it must not commit what was left"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_listener_that_wants_to_end_the_process_gets_its_message_again(
    error: BaseException, mode: Mode
) -> None:
    for is_async in (True, False):
        groups, seen = FakeGroups([a_batch(0)], [[a_message(0)], [a_message(0)]]), []

        def listen(messages: list[Message]) -> None:
            seen.append(messages)  # noqa: B023
            if len(seen) == 1:  # noqa: B023
                raise error

        async def awaited(messages: list[Message]) -> None:
            listen(messages)

        function = awaited if is_async else listen
        done = (lambda: 1 in groups.committed) if mode is Mode.OFFSET else (lambda: len(groups.told) == 2)  # noqa: B023
        await finish_after(groups, listening(groups, function, mode=mode), done)
        assert len(seen) == 2


async def test_by_offset_a_listener_that_cancels_its_own_task_passes_over_nothing() -> None:
    groups, seen = FakeGroups([a_batch(0), a_batch(1)]), []

    async def listen(message: ReceivedMessage) -> None:
        seen.append((message.offset, message.attempt))
        task = asyncio.current_task()
        if len(seen) == 1 and task is not None:
            task.cancel()
            await asyncio.sleep(0)

    await finish_after(groups, listening(groups, listen, one=True), lambda: 2 in groups.committed)
    assert seen == [(0, 1), (0, 2), (1, 1)]


async def test_a_listener_that_is_cancelled_in_a_call_ends() -> None:
    groups, busy = FakeGroups([a_batch(0)]), asyncio.Event()

    async def listen(messages: list[Message]) -> None:
        busy.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(listening(groups, listen).run())
    async with asyncio.timeout(30):
        await busy.wait()
        running.cancel()
        await asyncio.wait((running,))
    assert (running.cancelled(), groups.committed) == (True, [])


@pytest.mark.parametrize(("lasted", "waits"), [(0.0, [0.2, 0.4, 0.8, 1.6]), (60.0, [0.2, 0.2, 0.2, 0.2])])
async def test_a_listener_joins_again_soon_where_it_read_for_long(
    monkeypatch: pytest.MonkeyPatch, lasted: float, waits: list[float]
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    class Failing(FakeGroups):
        def by_offset(self, listener: Listener) -> AbstractAsyncContextManager[OffsetMember]:
            self.failure = UnknownTopic(topic="t")
            return super().by_offset(listener)

    times = count(step=lasted)
    loop = SimpleNamespace(time=lambda: next(times))
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=lambda: loop))
    groups = Failing()
    await finish_after(groups, listening(groups, lambda messages: None), lambda: len(waited) >= 4)
    assert waited[:4] == waits


async def test_by_lease_each_message_is_settled_for_itself() -> None:
    groups = FakeGroups(
        leased=[[a_message(n, body) for n, body in enumerate((b"ok", b"bad", b"fail", b"later", b"skip"))]]
    )

    async def listen(message: ReceivedMessage) -> object:
        match message.body:
            case b"bad":
                raise RuntimeError("the provider is away")
            case b"fail":
                raise Fail("no such user")
            case b"later":
                return Retry("not yet", after=60)
            case b"skip":
                return Skip()
        return None

    await finish_after(groups, listening(groups, listen, mode=Mode.LEASE, one=True), lambda: len(groups.told) == 5)
    assert sorted(groups.told, key=str) == [
        ("acknowledge", [0]),
        ("acknowledge", [4]),
        ("give up", [2], "The handler gave up: no such user"),
        ("retry", [1], None, "RuntimeError: the provider is away"),
        ("retry", [3], timedelta(seconds=60), "The handler asks to be tried again: not yet"),
    ]


async def test_by_lease_a_list_that_fails_is_narrowed_down_to_the_message() -> None:
    groups = FakeGroups(leased=[[a_message(n, b"%d" % n) for n in range(4)]])

    async def listen(messages: list[ReceivedMessage]) -> None:
        if any(message.body == b"2" for message in messages):
            raise RuntimeError("no such user")

    await finish_after(groups, listening(groups, listen, mode=Mode.LEASE), lambda: len(groups.told) == 3)
    assert groups.told == [
        ("acknowledge", [0, 1]),
        ("retry", [2], None, "RuntimeError: no such user"),
        ("acknowledge", [3]),
    ]


async def test_by_lease_messages_are_handled_side_by_side_up_to_the_slots() -> None:
    groups, go_on = FakeGroups(leased=[[a_message(n) for n in range(5)]]), asyncio.Event()
    at_work: set[int] = set()
    most = 0

    async def listen(message: ReceivedMessage) -> None:
        nonlocal most
        at_work.add(message.offset)
        most = max(most, len(at_work))
        if most == 3:
            go_on.set()
        await go_on.wait()
        at_work.discard(message.offset)

    running = listening(groups, listen, mode=Mode.LEASE, one=True, slots=3)
    await finish_after(groups, running, lambda: len(groups.told) == 5)
    assert most == 3


async def test_by_lease_what_was_not_begun_is_given_back_when_it_stops() -> None:
    groups, busy, go_on = FakeGroups(leased=[[a_message(n) for n in range(4)]]), asyncio.Event(), asyncio.Event()

    async def listen(message: ReceivedMessage) -> None:
        busy.set()
        await go_on.wait()

    listener = listening(groups, listen, mode=Mode.LEASE, one=True, slots=1)
    running = asyncio.create_task(listener.run())
    async with asyncio.timeout(30):
        await busy.wait()
        listener.stop()
        go_on.set()
        await running
    assert sorted(groups.told, key=str) == [("acknowledge", [0]), *(("give back", [n]) for n in (1, 2, 3))]


async def test_by_lease_a_lease_that_ended_does_not_stop_the_listener() -> None:
    refusal = LeaseExpired(attempt=1, topic="t", queue=0, offset=0, member_id="m")
    groups = FakeGroups(leased=[[a_message(0)], [a_message(1)]], refusal=refusal)
    await finish(listening(groups, lambda messages: None, mode=Mode.LEASE, slots=1), groups.was_asked_for_more)
    assert (groups.leased, groups.told) == ([], [])


async def test_by_lease_calls_at_hand_are_finished_when_reading_fails() -> None:
    groups = FakeGroups(leased=[[a_message(0)]], failure=UnknownTopic(topic="t"))

    async def listen(messages: list[ReceivedMessage]) -> None:
        await groups.was_asked_for_more.wait()
        await asyncio.sleep(0)

    await finish_after(groups, listening(groups, listen, mode=Mode.LEASE), lambda: groups.told)
    assert groups.told == [("acknowledge", [0])]


async def test_by_offset_a_message_is_tried_again_while_the_policy_cannot_be_read() -> None:
    groups, tries = FakeGroups([a_batch(0)], is_policy_away=True), 0

    async def listen(messages: list[ReceivedMessage]) -> object:
        nonlocal tries
        tries += 1
        return Retry(after=0) if tries == 1 else None

    await finish_after(groups, listening(groups, listen), lambda: 1 in groups.committed)
    assert tries == 2


def test_the_annotation_decides_between_a_message_and_a_list() -> None:
    def one(message: Message) -> None: ...
    def received(message: "ReceivedMessage", more: int = 0) -> None: ...
    def several(messages: list[Message]) -> None: ...
    def plain(messages) -> None: ...  # type: ignore[no-untyped-def]

    assert [read_listener("g", each)[0] for each in (one, received, several, plain)] == [True, True, False, False]


@pytest.mark.parametrize("function", [lambda: None, lambda a, b: None])
def test_a_function_that_cannot_be_a_listener_is_refused(function: Function) -> None:
    with pytest.raises(BadHandler, match="one parameter"):
        Executor("group").consumer("t", group="g")(function)


async def test_messages_at_work_are_kept_for_the_time_of_a_lease() -> None:
    groups, done, lease = FakeGroups(leased=[[a_message(0)]]), asyncio.Event(), timedelta(milliseconds=3)

    async def listen(messages: list[ReceivedMessage]) -> None:
        await done.wait()

    listener = Listener(("t",), "group", listen, True, False, Mode.LEASE, 1, 1, lease=lease)

    def is_extended() -> bool:
        if ("extend", [0], lease) in groups.told:
            done.set()
        return done.is_set()

    await finish_after(groups, Listening(listener, groups), is_extended)


UNFIT = (
    {"mode": "both"},
    {"slots": 0},
    {"max_messages": 0},
    {"tags": "vip"},
    {"start": "now"},
    {"start": datetime(2026, 12, 1)},  # noqa: DTZ001  # that is what is wrong with it
    {"lease": timedelta(milliseconds=999)},
    {"lease": timedelta(hours=13)},
)


@pytest.mark.parametrize("options", UNFIT)
def test_options_that_a_listener_cannot_have_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BadHandler):
        Executor("group").consumer("t", group="g", **options)  # type: ignore[arg-type]
