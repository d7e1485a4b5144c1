"""A consumer group in memory alone, for listeners: its members get what it was given, and it keeps what they say."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from broker.client.message import Batch, Columns, ReceivedMessage
from broker.model import GroupPolicy, Mode, Steps
from executor.registry import Function, Listener
from executor.running.listening.listening import Listening
from executor.running.listening.relaying import RelayProducer
from protos.errors import ShardcastError, Unreachable

AT_ONCE = GroupPolicy(attempts=3, backoff=Steps((0,)))
NEVER = GroupPolicy(attempts=3, backoff=Steps((3_600_000,)))


def a_batch(offset: int, *bodies: bytes, queue: int = 0) -> Batch:
    bodies = bodies or (b"x",)
    return Batch("t", queue, 1, offset, "log", 1, Columns(bodies, [], [], [0] * len(bodies), {}))


def a_message(offset: int, body: bytes = b"x", attempt: int = 1) -> ReceivedMessage:
    return ReceivedMessage(
        body=body, topic="t", queue=0, offset=offset, attempt=attempt, published_at_ms=0, log_id="log", topic_id=1
    )


@dataclass
class FakeGroups:
    """A group with one member, that has some batches and then waits."""

    batches: list[Batch] = field(default_factory=list)
    leased: list[list[ReceivedMessage]] = field(default_factory=list)
    kept: GroupPolicy = AT_ONCE
    refusal: Exception | None = None
    is_away: bool = False
    is_policy_away: bool = False
    failure: ShardcastError | None = None
    told: list[object] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)
    given_up: list[tuple[object, ...]] = field(default_factory=list)
    paused: list[tuple[str, int]] = field(default_factory=list)
    was_asked_for_more: asyncio.Event = field(default_factory=asyncio.Event)
    is_entering: asyncio.Event = field(default_factory=asyncio.Event)
    has_committed: asyncio.Event = field(default_factory=asyncio.Event)

    def by_offset(self, listener: Listener) -> AbstractAsyncContextManager["OffsetMember"]:
        return self._joined(OffsetMember(self))

    def by_lease(self, listener: Listener) -> AbstractAsyncContextManager["LeaseMember"]:
        return self._joined(LeaseMember(self))

    def producer(self, producer_id: str, term: int) -> AbstractAsyncContextManager[RelayProducer]:
        raise NotImplementedError

    async def policy(self, group: str) -> GroupPolicy:
        if self.is_policy_away:
            raise Unreachable(address="the broker")
        return self.kept

    @asynccontextmanager
    async def _joined(self, member):  # type: ignore[no-untyped-def]
        self.is_entering.set()
        if self.is_away:
            await asyncio.Event().wait()
        yield member

    async def wait_for_ever(self) -> None:
        self.was_asked_for_more.set()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        await asyncio.Event().wait()


@dataclass
class OffsetMember:
    group: FakeGroups

    async def __anext__(self) -> Batch:
        if not self.group.batches:
            await self.group.wait_for_ever()
        return self.group.batches.pop(0)

    async def commit(self, batch: Batch, before: int | None = None) -> None:
        if self.group.refusal is not None:
            raise self.group.refusal
        self.group.committed.append(batch.next_offset if before is None else before)
        self.group.has_committed.set()

    async def give_up(self, *messages: ReceivedMessage, error: str) -> None:
        self.group.given_up += [(message.offset, message.attempt, error) for message in messages]
        self.group.committed.append(messages[-1].offset + 1)

    def pause(self, topic: str, queue: int) -> None:
        self.group.paused.append((topic, queue))

    def resume(self, topic: str, queue: int) -> None:
        if (topic, queue) in self.group.paused:
            self.group.paused.remove((topic, queue))


@dataclass
class LeaseMember:
    group: FakeGroups

    async def __anext__(self) -> list[ReceivedMessage]:
        if not self.group.leased:
            await self.group.wait_for_ever()
        return self.group.leased.pop(0)

    async def acknowledge(self, *messages: ReceivedMessage) -> None:
        self._tell("acknowledge", messages)

    async def retry(self, *messages: ReceivedMessage, after: timedelta | None = None, error: str = "") -> None:
        self._tell("retry", messages, after, error)

    async def give_up(self, *messages: ReceivedMessage, error: str) -> None:
        self._tell("give up", messages, error)

    async def give_back(self, *messages: ReceivedMessage) -> None:
        self._tell("give back", messages)

    async def extend(self, *messages: ReceivedMessage, by: timedelta) -> None:
        self._tell("extend", messages, by)

    def _tell(self, what: str, messages: Sequence[ReceivedMessage], *more: object) -> None:
        if self.group.refusal is not None:
            raise self.group.refusal
        self.group.told.append((what, [message.offset for message in messages], *more))


def listening(
    groups: FakeGroups, function: Function, *, mode: Mode = Mode.OFFSET, slots: int = 8, one: bool = False
) -> Listening:
    is_async = asyncio.iscoroutinefunction(function)
    return Listening(Listener(("t",), "group", function, is_async, one, mode, slots, 100), groups)


async def finish(listening: Listening, moment: asyncio.Event) -> None:
    running = asyncio.create_task(listening.run())
    async with asyncio.timeout(30):
        await moment.wait()
        listening.stop()
        await running


async def finish_after(groups: FakeGroups, listening: Listening, check) -> None:  # type: ignore[no-untyped-def]
    """Until the check holds."""
    running = asyncio.create_task(listening.run())
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0)
        listening.stop()
        await running
