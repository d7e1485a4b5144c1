"""The executor's end of a handler's process: starts it, serves what it asks for, and kills it with all its children."""

import asyncio
import json
import pickle
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial

from broker.client.publishing.receipts import Receipts
from executor.errors import HandlerDied
from executor.limits.current import current_url
from executor.model import Assignment, Counters, Outcome, OutcomeState
from executor.registry import Handler
from executor.running.cancellation import Cancellation
from executor.running.outcome import EndedElsewhere
from executor.running.process import frames
from executor.running.process.frames import Acknowledged, Answer, Ask, Begin, Counted, Ended, Lease, Logged, Stop
from executor.running.process.spawn import Spawned
from executor.running.runlog import RunLog
from executor.running.shard import OpenProducer, Pin
from executor.sharding.cursor import ShardCursor
from executor.sharding.publish import Producer

EXIT_SECONDS = 2.0  # for a process that has said its last word, or whose socket is closed, to end by itself
LEASE_SECONDS = 0.2  # between two words of how long the lease lasts
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from executor.running.process.child import main; main(int(sys.argv[1]))"
)


class HandlerProcess:
    """One attempt's handler in a new interpreter. Belongs to the daemon's loop."""

    def __init__(
        self,
        handler: Handler,
        assignment: Assignment,
        *,
        cancellation: Cancellation,
        log: RunLog,
        open_producer: OpenProducer,
        pin: Pin,
    ) -> None:
        self.counters = Counters(counts=assignment.counts)
        self.pid: int | None = None
        self._before = ShardCursor()
        self._handler = handler
        self._assignment = assignment
        self._cancellation = cancellation
        self._log = log
        self._open_producer = open_producer
        self._pin = pin
        self._stack = AsyncExitStack()
        self._producer: Producer | None = None
        self._asks: set[asyncio.Task[None]] = set()

    @property
    def gained(self) -> tuple[int, int]:
        """Rows handed out and messages acknowledged by this attempt alone, as far as its process has told."""
        rows, published = self.counters.rows - self._before.rows, self.counters.published - self._before.published
        return max(rows, 0), max(published, 0)

    async def run(self, deadline: datetime | None) -> object:
        """What the handler returned, as JSON values. Cancelled, it kills the process and its children.

        Raises EndedElsewhere for a handler that ended in another way, HandlerDied where the process did.
        """
        async with self._stack, self._started() as (spawned, reader, writer):
            writer.write(frames.packed(self._begin(deadline)))
            telling = [asyncio.create_task(part(writer)) for part in (self._pass_on_stop, self._pass_on_lease)]
            try:
                outcome = await self._ended(spawned, reader, writer)
            finally:
                for task in (*telling, *self._asks):
                    task.cancel()
        if outcome is None:
            raise HandlerDied(name=self._handler.name, how=_told(spawned.exited.result()))
        if outcome.state is not OutcomeState.SUCCEEDED:
            raise EndedElsewhere(outcome)
        return json.loads(outcome.result)

    def _begin(self, deadline: datetime | None) -> Begin:
        function, manner = self._handler.function, pickle.dumps(self._handler.manner)
        names = (function.__module__, function.__qualname__)
        return Begin(*names, manner, self._assignment, deadline, current_url())

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[Spawned, asyncio.StreamReader, asyncio.StreamWriter]]:
        """Until the block ends, and then nothing is left of it."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with theirs:
                given = (str(theirs.fileno()), json.dumps(sys.path))
                spawned = Spawned((sys.executable, "-c", PROGRAM, *given), descriptors=(theirs.fileno(),))
            self.pid = spawned.pid
            try:
                yield spawned, reader, writer
            finally:
                spawned.kill()
                await spawned.wait()
        finally:
            writer.close()

    async def _ended(
        self, spawned: Spawned, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Outcome | None:
        """Its last word, once it has exited; None where it died without one."""
        reading = asyncio.create_task(self._read(reader, writer))
        try:
            await asyncio.wait((reading, spawned.exited), return_when=asyncio.FIRST_COMPLETED)
            await spawned.wait(EXIT_SECONDS)
            spawned.kill()  # what it left behind may hold the socket open, and for long if it has left the group
            await asyncio.wait((reading,), timeout=EXIT_SECONDS)
            return reading.result() if reading.done() else None
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Outcome | None:
        while (frame := await _next(reader)) is not None:
            match frame:
                case Ended():
                    self.counters = frame.outcome.counters
                    return frame.outcome
                case Counted():
                    self.counters = frame.counters
                case Logged():
                    self._log.keep(frame.line)
                case Ask():
                    ask = asyncio.create_task(self._answer(frame, writer))
                    self._asks.add(ask)
                    ask.add_done_callback(self._asks.discard)
        return None

    async def _answer(self, ask: Ask, writer: asyncio.StreamWriter) -> None:
        try:
            self._cancellation.check()
            answer = Answer(ask.number, await self._cancellation.unless_stopped(self._served(ask, writer)))
        except Exception as error:  # is the handler's, as if it ran here
            answer = Answer(ask.number, refused=frames.refused(error))
        _say(writer, answer)

    async def _served(self, ask: Ask, writer: asyncio.StreamWriter) -> object:
        key = self._assignment.key
        match ask.what:
            case frames.Open():
                self._producer = await self._stack.enter_async_context(self._open_producer(key))
                self._before = ShardCursor.decode(self._producer.cursor)
                return self._producer.log_id, self._producer.cursor
            case frames.Propose(name, value):
                return await self._pin(key, name, value)
            case frames.Publish(topic, messages, cursor):
                receipts = await self._opened.publish(topic, messages, cursor)
                receipts.add_done_callback(partial(_acknowledge, ask.number, writer))
                return None
            case frames.Flush():
                await self._opened.flush()
                return None

    @property
    def _opened(self) -> Producer:
        if self._producer is None:
            raise RuntimeError("the producer is opened before it is used")
        return self._producer

    async def _pass_on_stop(self, writer: asyncio.StreamWriter) -> None:
        await self._cancellation.wait()
        _say(writer, Stop(self._cancellation.reason))

    async def _pass_on_lease(self, writer: asyncio.StreamWriter) -> None:
        """So that the process ends with it, also where this one is frozen."""
        while True:
            _say(writer, Lease(self._cancellation.seconds_left))
            await asyncio.sleep(LEASE_SECONDS)


def _acknowledge(number: int, writer: asyncio.StreamWriter, receipts: asyncio.Future[Receipts]) -> None:
    if receipts.cancelled():
        return
    if (error := receipts.exception()) is not None:
        _say(writer, Acknowledged(number, refused=frames.refused(error)))
    else:
        _say(writer, Acknowledged(number, receipts.result()))


def _say(writer: asyncio.StreamWriter, frame: frames.ToProcess) -> None:
    if not writer.is_closing():
        writer.write(frames.packed(frame))


async def _next(reader: asyncio.StreamReader) -> frames.OfProcess | None:
    """None where the process has ended, however."""
    try:
        size = frames.size_of(await reader.readexactly(frames.HEAD.size))
        frame: frames.OfProcess = pickle.loads(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, OSError):
        return None
    return frame


def _told(code: int) -> str:
    if code >= 0:
        return f"it exited with {code} before its handler returned"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
    return f"it was ended by {name}{hint}"
