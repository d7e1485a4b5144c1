"""Publishes what the messages of a queue lead to, each time in one step with how far the queue has been read."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from broker.errors import DiskFull, ProducerUnknown, StaleTerm
from executor.errors import BadCursor
from executor.running.listening.portions import Portion
from executor.running.listening.stopping import Stopping
from protos.errors import ShardcastError

log = structlog.get_logger(__name__)

OPENINGS_BITS = 32
DISK_FULL_SECONDS = 1.0  # between looks whether there is room again


class RelayProducer(Protocol):
    """A producer at the broker, opened. After a refusal it publishes nothing more."""

    cursor: bytes | None
    failure: ShardcastError | None
    is_turned_away: bool

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]: ...

    async def flush(self) -> None: ...


OpenRelay = Callable[[str, int], AbstractAsyncContextManager[RelayProducer]]
"""Of a producer id and a term; entering fences all with lower terms, and waits while the broker is away."""


@dataclass(frozen=True, slots=True)
class Source:
    """A queue that is read under one generation, and where what it leads to goes."""

    group: str
    topic: str
    queue: int
    generation: int
    topic_id: int
    to: str

    @property
    def producer_id(self) -> str:
        """The same for all generations."""
        return f"group/{self.group}/{self.topic}/{self.queue}"

    @property
    def first_term(self) -> int:
        """Above all of lower generations; each further opening has the next."""
        return self.generation << OPENINGS_BITS

    def cursor(self, before: int) -> bytes:
        """Says that all before this offset is published. A topic that was made anew has another id."""
        return f"{self.topic_id}/{before}".encode()

    def published(self, cursor: bytes | None) -> int:
        """The offset before which all is published. Raises BadCursor."""
        if not cursor:
            return 0
        try:
            topic_id, offset = cursor.split(b"/")
            return int(offset) if int(topic_id) == self.topic_id else 0
        except ValueError as error:
            raise BadCursor(reason=f"{cursor!r} is not how far a queue has been read") from error


@dataclass(frozen=True, slots=True)
class Made:
    """What a portion led to."""

    portion: Portion
    messages: Sequence[Message]


class Refused(Exception):
    """The broker does not take what was made: the first of `left`. What follows it was not published either."""

    def __init__(self, error: ShardcastError, left: Sequence[Made]) -> None:
        super().__init__(str(error))
        self.error = error
        self.left = left


class Halted(Exception):
    """The order to stop came before the producer was open."""


class Relay:
    """The producer of one queue under one generation. Several publishes are under way at a time, in order."""

    def __init__(self, source: Source, open_producer: OpenRelay, stopping: Stopping) -> None:
        self._source = source
        self._open_producer = open_producer
        self._stopping = stopping
        self._stack = AsyncExitStack()
        self._term = source.first_term
        self._under_way: deque[tuple[Made, asyncio.Future[Receipts]]] = deque()

    async def open(self) -> int:
        """Fences whoever had the queue before. Returns the offset before which all is published. Raises StaleTerm,
        BadCursor and Halted.
        """
        await self.close()
        opening = self._open_producer(self._source.producer_id, self._term)
        self._term += 1  # nothing of what this one sends is taken once there is another
        producer = await self._stopping.unless(self._stack.enter_async_context(opening))
        if producer is None:
            raise Halted
        self._producer = producer
        return self._source.published(producer.cursor)

    def outbid(self, stale: StaleTerm) -> None:
        """The queue is this member's for all that: generations of a group that was made anew begin anew."""
        self._term = int(str(stale.fields["current"])) + 1

    async def close(self) -> None:
        """Gives up what is not acknowledged."""
        await self._stack.aclose()

    async def publish(self, made: Made) -> None:
        """Sends it behind all before it; waits where too much is under way. Raises Refused, StaleTerm and Halted."""
        while self._under_way and self._under_way[0][1].done() and not self._under_way[0][1].exception():
            self._under_way.popleft()
        await self._send([made])

    async def flush(self) -> None:
        """Returns when all is durable. Raises Refused, StaleTerm and Halted."""
        while self._under_way:
            try:
                await self._producer.flush()
                self._under_way.clear()
            except ShardcastError:
                await self._send(await self._left())

    async def _send(self, left: Sequence[Made]) -> None:
        waiting = deque(left)
        while waiting:
            made = waiting[0]
            try:
                cursor = self._source.cursor(made.portion.end)
                acknowledged = await self._producer.publish(self._source.to, made.messages, cursor)
                self._under_way.append((waiting.popleft(), acknowledged))
            except ShardcastError as error:
                if self._producer.failure is None:  # it was not even sent, and the producer goes on
                    raise Refused(error, tuple(waiting)) from error
                waiting = deque(await self._left(*waiting))

    async def _left(self, *unsent: Made) -> Sequence[Made]:
        """What is to be sent again, with a new producer, behind a refusal that was not about it. Raises Refused."""
        error = self._producer.failure
        assert error is not None
        if isinstance(error, StaleTerm | ProducerUnknown) or self._producer.is_turned_away:
            raise error
        if isinstance(error, DiskFull):
            log.warning("publishing waits", action="relay_waits", topic=self._source.to, error=str(error))
            await self._stopping.unless(asyncio.sleep(DISK_FULL_SECONDS))
        published = await self.open()
        left = [made for made in (*(made for made, _ in self._under_way), *unsent) if made.portion.end > published]
        self._under_way.clear()
        if left and not isinstance(error, DiskFull):
            raise Refused(error, left) from error
        return left
