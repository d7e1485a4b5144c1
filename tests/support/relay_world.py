"""One queue, its group and the producer that goes with it, in memory: with refusals, late holders and lost answers.

Chance decides how long each step takes, and what the broker refuses for a moment.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from broker.client.message import Batch, Columns, Message, ReceivedMessage
from broker.client.publishing.receipts import Receipts
from broker.errors import Abandoned, DelayTooLong, DiskFull, NotOwner, StaleTerm, TooLarge
from broker.model import GroupPolicy, Steps
from executor.registry import Listener
from protos.broker.v1 import broker_pb2 as pb
from protos.errors import ShardcastError

TOO_LARGE, TOO_LATE = b"too large", b"too late"


@dataclass
class World:
    """What the broker has. It refuses messages that are TOO_LARGE or TOO_LATE for good."""

    inputs: Sequence[bytes]
    chance: random.Random = field(default_factory=random.Random)
    full: float = 0.0
    """How likely it is that the disk is full."""
    attempts: int = 2
    committed: int = 0
    generation: int = 0
    term: int = 0
    cursor: bytes | None = None
    out: list[bytes] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    publishes: int = 0
    most_under_way: int = 0
    openings: list[int] = field(default_factory=list)
    _lost: set[asyncio.Task[None]] = field(default_factory=set)

    def by_offset(self, listener: Listener) -> AbstractAsyncContextManager["WorldMember"]:
        return self._joined()

    def by_lease(self, listener: Listener) -> AbstractAsyncContextManager["WorldMember"]:
        raise NotImplementedError

    def producer(self, producer_id: str, term: int) -> "WorldProducer":
        return WorldProducer(self, term)

    async def policy(self, group: str) -> GroupPolicy:
        return GroupPolicy(self.attempts, Steps((0,)))

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    def keep(self, task: asyncio.Task[None]) -> None:
        """What was sent by somebody who has gone arrives all the same."""
        self._lost.add(task)
        task.add_done_callback(self._lost.discard)

    @asynccontextmanager
    async def _joined(self) -> AsyncIterator["WorldMember"]:
        await self.pause()
        self.generation += 1
        yield WorldMember(self, self.generation, self.committed)


@dataclass
class WorldMember:
    """Owns the queue until another one joins."""

    world: World
    generation: int
    at: int

    async def __anext__(self) -> Batch:
        await self.world.pause()
        left = len(self.world.inputs) - self.at
        if not left or self.generation != self.world.generation:
            await asyncio.Event().wait()
        bodies = self.world.inputs[self.at : self.at + self.world.chance.randint(1, min(left, 7))]
        first, self.at = self.at, self.at + len(bodies)
        return Batch("in", 0, self.generation, first, "log", 1, Columns(bodies, [], [], [0] * len(bodies), {}))

    async def commit(self, batch: Batch, before: int | None = None) -> None:
        await self.world.pause()
        self._check(batch.generation)
        self.world.committed = max(self.world.committed, batch.next_offset if before is None else before)
        await self.world.pause()  # the answer may be lost

    async def give_up(self, *messages: ReceivedMessage, error: str) -> None:
        await self.world.pause()
        self._check(self.generation)
        self.world.dead += [message.offset for message in messages]
        self.world.committed = max(self.world.committed, messages[-1].offset + 1)
        await self.world.pause()

    def pause(self, topic: str, queue: int) -> None: ...

    def resume(self, topic: str, queue: int) -> None: ...

    def _check(self, generation: int) -> None:
        if generation != self.world.generation:
            raise NotOwner(member_id="m", group="g", topic="in", queue=0, generation=generation)


class WorldProducer:
    """Sends in order; what it sent may arrive after it has gone."""

    def __init__(self, world: World, term: int) -> None:
        self._world = world
        self._term = term
        self.cursor: bytes | None = None
        self.failure: ShardcastError | None = None
        self.is_turned_away = False
        self._sent: asyncio.Queue[tuple[Sequence[Message], bytes | None, asyncio.Future[Receipts]]] = asyncio.Queue()
        self._pending: list[asyncio.Future[Receipts]] = []

    async def __aenter__(self) -> Self:
        await self._world.pause()
        self._world.openings.append(self._term)
        if self._term <= self._world.term:
            raise StaleTerm(producer_id="p", term=self._term, current=self._world.term)
        self._world.term, self.cursor = self._term, self._world.cursor
        self._arriving = asyncio.create_task(self._arrive())
        await self._world.pause()  # the answer may be lost
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._world.chance.random() < 0.5:
            self._arriving.cancel()
        else:
            self._world.keep(self._arriving)

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        if any(message.body == TOO_LARGE for message in messages):
            raise TooLarge(what="publish", size=2, limit=1)
        await self._world.pause()
        if self.failure is not None:
            raise self.failure
        receipts: asyncio.Future[Receipts] = asyncio.get_running_loop().create_future()
        receipts.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending.append(receipts)
        self._world.most_under_way = max(self._world.most_under_way, len(self._pending))
        self._sent.put_nowait((messages, cursor, receipts))
        return receipts

    async def flush(self) -> None:
        while self._pending:
            await asyncio.wait(self._pending)
        if self.failure is not None:
            raise self.failure

    async def _arrive(self) -> None:
        while True:
            messages, cursor, receipts = await self._sent.get()
            await self._world.pause()
            if (error := self._refusal(messages)) is not None:
                self._fail(receipts, error)
                return
            self._world.out += [message.body for message in messages]
            self._world.cursor = cursor
            self._world.publishes += 1
            await self._world.pause()
            self._pending.remove(receipts)
            receipts.set_result(Receipts(pb.Published()))

    def _refusal(self, messages: Sequence[Message]) -> ShardcastError | None:
        world = self._world
        if self._term < world.term:
            return StaleTerm(producer_id="p", term=self._term, current=world.term)
        if any(message.body == TOO_LATE for message in messages):
            return DelayTooLong(deliver_at_ms=2, latest_ms=1)
        return DiskFull(path="/", free=0, reserve=1) if world.chance.random() < world.full else None

    def _fail(self, receipts: asyncio.Future[Receipts], error: ShardcastError) -> None:
        self.failure = error
        receipts.set_exception(error)
        for pending in self._pending:
            if pending is not receipts:
                pending.set_exception(Abandoned(sequence=1, cause=error))
        self._pending.clear()
