"""Listeners get their batches until they have done them, and stop when they are told to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from broker.client.message import Batch, Columns, Message
from broker.errors import NotOwner
from executor.registry import Function, Listener
from executor.running.listening import Listening

pytestmark = pytest.mark.anyio


def a_batch(offset: int) -> Batch:
    return Batch("t", 0, 1, offset, "log", 1, Columns([b"x"], [], [], [0], {}))


@dataclass
class FakeConsumer:
    """A member that has some batches and then waits."""

    batches: list[Batch]
    refusal: Exception | None = None
    is_away: bool = False
    committed: list[int] = field(default_factory=list)
    was_asked_for_more: asyncio.Event = field(default_factory=asyncio.Event)
    is_entering: asyncio.Event = field(default_factory=asyncio.Event)

    async def __anext__(self) -> Batch:
        if self.batches:
            return self.batches.pop(0)
        self.was_asked_for_more.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def commit(self, batch: Batch) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.committed.append(batch.first_offset)

    @asynccontextmanager
    async def join(self, group: str, topics: Sequence[str]) -> AsyncIterator["FakeConsumer"]:
        self.is_entering.set()
        if self.is_away:
            await asyncio.Event().wait()
        yield self


def listening(consumer: FakeConsumer, function: Function, *, is_async: bool = False) -> Listening:
    return Listening(Listener(("t",), "group", function, is_async), lambda group, topics: consumer.join(group, topics))


async def finish(listening: Listening, moment: asyncio.Event) -> None:
    running = asyncio.create_task(listening.run())
    async with asyncio.timeout(5):
        await moment.wait()
        listening.stop()
        await running


async def test_a_batch_is_committed_once_its_listener_is_done() -> None:
    consumer, seen = FakeConsumer([a_batch(0), a_batch(1)]), []

    def listen(messages: list[Message]) -> None:
        seen.append([message.body for message in messages])

    await finish(listening(consumer, listen), consumer.was_asked_for_more)
    assert (seen, consumer.committed) == ([[b"x"], [b"x"]], [0, 1])


async def test_a_failed_batch_comes_again_before_the_next_one() -> None:
    consumer, seen = FakeConsumer([a_batch(0), a_batch(1)]), []

    async def listen(messages: list[Message]) -> None:
        seen.append(messages)
        if len(seen) == 1:
            raise RuntimeError("the provider is away")

    await finish(listening(consumer, listen, is_async=True), consumer.was_asked_for_more)
    assert len(seen) == 3
    assert consumer.committed == [0, 1]


async def test_a_batch_that_went_to_another_member_does_not_stop_the_listener() -> None:
    consumer = FakeConsumer(
        [a_batch(0), a_batch(1)], NotOwner(member_id="m", group="g", topic="t", queue=0, generation=1)
    )
    await finish(listening(consumer, lambda messages: None), consumer.was_asked_for_more)
    assert consumer.committed == []


async def test_a_listener_that_keeps_failing_stops_without_a_commit() -> None:
    consumer, failed = FakeConsumer([a_batch(0)]), asyncio.Event()

    async def listen(messages: list[Message]) -> None:
        failed.set()
        raise RuntimeError("for ever")

    await finish(listening(consumer, listen, is_async=True), failed)
    assert consumer.committed == []


async def test_a_listener_stops_also_while_the_broker_is_away() -> None:
    consumer = FakeConsumer([], is_away=True)
    await finish(listening(consumer, lambda messages: None), consumer.is_entering)
    assert consumer.committed == []


async def test_a_batch_that_was_not_done_is_never_committed_by_the_next_one() -> None:
    consumer, failed = FakeConsumer([a_batch(0), a_batch(1)]), asyncio.Event()
    seen: list[object] = []

    async def listen(messages: list[Message]) -> None:
        seen.append(messages)
        failed.set()
        if len(seen) == 1:
            raise RuntimeError("the provider is away")

    await finish(listening(consumer, listen, is_async=True), failed)
    assert (len(seen), consumer.committed) == (1, [])


async def test_a_listener_that_is_told_to_stop_leaves_the_batches_that_wait() -> None:
    consumer, busy = FakeConsumer([a_batch(0), a_batch(1)]), asyncio.Event()

    async def listen(messages: list[Message]) -> None:
        busy.set()
        await asyncio.sleep(0)  # the order to stop comes meanwhile

    await finish(listening(consumer, listen, is_async=True), busy)
    assert consumer.committed == [0]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_listener_that_wants_to_end_the_process_gets_its_batch_again(error: BaseException) -> None:
    for is_async in (True, False):
        consumer, seen = FakeConsumer([a_batch(0)]), []

        def listen(messages: list[Message]) -> None:
            seen.append(messages)  # noqa: B023
            if len(seen) == 1:  # noqa: B023
                raise error

        async def awaited(messages: list[Message]) -> None:
            listen(messages)

        function = awaited if is_async else listen
        await finish(listening(consumer, function, is_async=is_async), consumer.was_asked_for_more)
        assert (len(seen), consumer.committed) == (2, [0])
