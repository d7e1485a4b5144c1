"""What a handler publishes with: one topic's way into the shard's producer."""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast

from broker.client.message import Message
from broker.errors import NotOpen
from executor.errors import PublisherBroken, RowFailed
from executor.running.isolation import Portal, contained
from executor.running.shard import AttemptShard
from executor.sharding.cursor import Cursor
from executor.sharding.pace import Pacer
from executor.sharding.scan import Rows
from executor.sharding.table.questions import Row
from executor.sharding.units import Limits, Made, Unit, gather
from protos.errors import InvalidArgument

Make = Callable[[Row], Made]


class AsyncPublisher:
    """Publishes to a topic; leaving the block sends what is gathered and waits until all is acknowledged."""

    def __init__(
        self,
        shard: AttemptShard,
        topic: str,
        limits: Limits,
        pace: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises InvalidArgument."""
        self._shard = shard
        self._topic = topic
        self._limits = limits
        self._clock = clock
        self._pacer = Pacer(pace, clock)
        self._turn = asyncio.Lock()  # over everything that is sent, so that it leaves in order
        self._lock = threading.Lock()
        self._held: Unit | None = None  # gathered and not full; whoever takes it sends it, or holds it again
        self._has_held = asyncio.Event()
        self._lingering: asyncio.Task[None] | None = None
        self._broken = ""  # by what

    @property
    def pace(self) -> float | None:
        """How many messages leave per second, None: as fast as the broker takes them.

        May be set at any time, from any thread, and holds at once. Raises InvalidArgument for what is no pace.
        """
        return self._pacer.pace

    @pace.setter
    def pace(self, pace: float | None) -> None:
        self._pacer.pace = pace

    async def publish(self, messages: Iterable[Message], *, checkpoint: Cursor | None = None) -> None:
        """Sends the messages as one atomic unit, and with them that the scan is done up to `checkpoint`: the cursor of
        a batch, or of a part of one.

        Returns once they are on their way, at the publisher's pace and while the broker keeps up. Raises
        CheckpointOrder or TooLarge before anything is sent, Cancelled, and what the broker refused before.
        """
        given = list(messages)
        async with self._turn:
            await self._send_held()
            await self._wait_for(lambda _: len(given))
            await (await self._shard.open()).publish(self._topic, given, checkpoint)

    async def publish_each(self, rows: Rows, make_message: Make | Callable[[Row], Awaitable[Made]]) -> None:
        """Sends what `make_message` makes of each row: a message, several, or None where there is none.

        They are gathered, over batches too, into atomic units under the cursor of their last row: of at most
        `max_messages` and `max_bytes`, less at a low pace, but all messages of a row in one. What is gathered waits for
        the next batch for `linger` at most. Raises RowFailed when `make_message` raises or makes what cannot be sent:
        what is before that row is durable then, the row and what is behind it are not published. Retry, Fail, Skip and
        Cancelled pass unchanged. Raises NotOpen outside of the block, and what `publish` raises. A handler that catches
        what ended it cannot go on with this publisher: PublisherBroken, also as the block ends.
        """
        with self._kept_whole(rows):
            if not inspect.iscoroutinefunction(make_message):
                await self._send_full(self._gather(rows, cast(Make, make_message)))
                return
            for index in range(len(rows)):
                made = await _outcome(make_message(rows[index]))
                await self._send_full(self._gather(rows.part(index, index + 1), made))

    async def flush(self) -> None:
        """Sends what is gathered, and returns when everything published is durable. Raises PublisherBroken."""
        self._check_whole()
        async with self._turn:
            await self._send_held()
            await (await self._shard.open()).flush()

    async def __aenter__(self) -> Self:
        await self._shard.open()
        self._loop = asyncio.get_running_loop()
        self._lingering = asyncio.create_task(self._keep_lingering())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            lingering, self._lingering = self._lingering, None
            if lingering is not None:
                lingering.cancel()
                await asyncio.gather(lingering, return_exceptions=True)

    @contextmanager
    def _kept_whole(self, rows: object) -> Iterator[None]:
        """Else rows that were left out would pass for done when the attempt succeeds."""
        self._check_whole()
        if self._lingering is None:
            raise NotOpen(what="publisher")
        if not isinstance(rows, Rows):
            raise InvalidArgument(reason=f"publish_each takes the rows of a scan, not {type(rows).__name__}")
        try:
            yield
        except BaseException as error:
            self._broken = f"{type(error).__name__}: {error}"
            raise

    def _check_whole(self) -> None:
        if self._broken:
            raise PublisherBroken(reason=self._broken)

    def _gather(self, rows: Rows, make: Make) -> Iterator[Unit]:
        """The units to send now; the rest is held. For the thread that handles the rows."""
        for unit in gather(rows, make, self._limits, self._clock, self._take_held()):
            if unit.is_full:
                yield unit
            else:
                with self._lock:
                    self._held = unit
                self._loop.call_soon_threadsafe(self._has_held.set)

    def _take_held(self) -> Unit | None:
        with self._lock:
            unit, self._held = self._held, None
            return unit

    async def _send_full(self, units: Iterable[Unit]) -> None:
        try:
            for unit in units:
                await self._send(unit)
        except RowFailed:  # what is before the row shall be durable when the attempt ends here
            await self.flush()
            raise

    async def _send(self, unit: Unit) -> None:
        async with self._turn:
            await self._send_in_turn(unit)

    async def _send_held(self) -> None:
        """In turn. Raises what ended the sending of what was held too long."""
        if self._lingering is not None and self._lingering.done():
            self._lingering.result()
        if unit := self._take_held():
            await self._send_in_turn(unit)

    async def _send_in_turn(self, unit: Unit) -> None:
        """Whole, or at a low pace piece by piece."""
        publisher = await self._shard.open()
        rows = 0

        def head(most: float) -> int:
            nonlocal rows
            rows = unit.cut(most)
            return unit.count(rows)

        while unit:
            await self._wait_for(head)
            messages, cursor = unit.take(rows)
            await publisher.publish(self._topic, messages, cursor)

    async def _wait_for(self, count: Callable[[float], int]) -> None:
        """Until the pace allows so many messages. Raises Cancelled as soon as the attempt is to stop."""
        if not self._pacer.take(count):
            await self._shard.cancellation.unless_stopped(self._pacer.wait(count))

    async def _keep_lingering(self) -> None:
        """Sends what is held when no more rows come in time."""
        while True:
            held = self._held
            if held is None:
                await self._has_held.wait()
                self._has_held.clear()
            elif (seconds := held.due - self._clock()) > 0:
                await asyncio.sleep(seconds)
            else:
                async with self._turn:
                    with self._lock:
                        is_due = self._held is held
                    if is_due:
                        await self._send_held()


class Publisher:
    """AsyncPublisher for a handler that is a plain function."""

    def __init__(self, publisher: AsyncPublisher, portal: Portal) -> None:
        self._publisher = publisher
        self._portal = portal

    @property
    def pace(self) -> float | None:
        """See AsyncPublisher.pace."""
        return self._publisher.pace

    @pace.setter
    def pace(self, pace: float | None) -> None:
        self._publisher.pace = pace

    def publish(self, messages: Iterable[Message], *, checkpoint: Cursor | None = None) -> None:
        """See AsyncPublisher.publish."""
        self._portal(self._publisher.publish(list(messages), checkpoint=checkpoint))

    def publish_each(self, rows: Rows, make_message: Make) -> None:
        """See AsyncPublisher.publish_each."""
        with self._publisher._kept_whole(rows):
            try:
                for unit in self._publisher._gather(rows, make_message):
                    self._portal(self._publisher._send(unit))
            except RowFailed:
                self.flush()
                raise

    def flush(self) -> None:
        """See AsyncPublisher.flush."""
        self._portal(self._publisher.flush())

    def __enter__(self) -> Self:
        self._portal(self._publisher.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal(self._publisher.__aexit__(kind, error, trace))


async def _outcome(making: Awaitable[Made]) -> Make:
    """What came of it, to be told in the row's turn."""
    try:
        made = await contained(making)
    except Exception as error:
        failure = error

        def fail(_: Row) -> Made:
            raise failure

        return fail
    return lambda _: made
