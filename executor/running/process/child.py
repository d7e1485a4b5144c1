"""The handler's end: imports the function, runs it on the main thread, and asks the executor for what it holds."""

import asyncio
import importlib
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from itertools import count
from typing import cast

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from executor.errors import BadHandler, Fail, Retry, Skip, line_of
from executor.limits.current import using
from executor.limits.limits import Limits
from executor.model import AttemptKey, Counters, LogLine, Outcome
from executor.registry import PLAIN, Function, Handler, Manner, describe
from executor.running.cancellation import Cancellation, Why
from executor.running.context import ELSEWHERE, AsyncContext, Context, current
from executor.running.isolation import Portal, harmless
from executor.running.outcome import Ending, encode_result, ended_by, succeeded
from executor.running.process import frames
from executor.running.process.frames import Acknowledged, Answer, Ask, Begin, Counted, Ended, Lease, Logged, Stop
from executor.running.runlog import RunLog
from executor.running.shard import AttemptShard
from executor.sharding.plans import Plans
from protos.daemon import configure_logs

TELL_SECONDS = 0.2  # between two looks at the counters
WATCH_SECONDS = 0.1  # between two looks at the lease


def main(descriptor: int) -> None:
    """Runs the one handler that this process is for."""
    os.set_inheritable(descriptor, False)
    pipe = Pipe(socket.socket(fileno=descriptor))
    begin = pipe.receive()
    if not isinstance(begin, Begin):
        return
    configure_logs()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="loop", daemon=True).start()
    cancellation = Portal(loop)(_cancellation())
    threading.Thread(target=_listen, args=(pipe, loop, cancellation), name="pipe", daemon=True).start()
    pipe.send(Ended(_Run(pipe, begin, cancellation, Portal(loop)).outcome()))


class Pipe:
    """The socket, and what was asked and not answered. Any thread may send; one reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[object]] = {}
        self._receipts: dict[int, asyncio.Future[Receipts]] = {}

    def send(self, frame: frames.OfProcess) -> None:
        data = frames.packed(frame)
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> frames.ToProcess | None:
        """The next frame; None when the executor is gone."""
        try:
            head = self._exactly(frames.HEAD.size)
            frame: frames.ToProcess | None = pickle.loads(self._exactly(frames.size_of(head))) if head else None
        except (OSError, EOFError):
            return None
        return frame

    async def ask(
        self, what: frames.Open | frames.Propose | frames.Publish | frames.Flush
    ) -> tuple[object, asyncio.Future[Receipts]]:
        """The answer, and what becomes the receipts of a publish. Raises what the executor refused with."""
        loop, number = asyncio.get_running_loop(), next(self._numbers)
        answer: asyncio.Future[object] = loop.create_future()
        receipts: asyncio.Future[Receipts] = loop.create_future()
        self._answers[number] = answer
        if isinstance(what, frames.Publish):
            self._receipts[number] = receipts
        try:
            self.send(Ask(number, what))
            return await answer, receipts
        finally:
            del self._answers[number]

    def settle(self, frame: Answer | Acknowledged) -> None:
        """In the loop."""
        answer = (
            self._answers.get(frame.number) if isinstance(frame, Answer) else self._receipts.pop(frame.number, None)
        )
        if answer is None or answer.done():
            return
        if frame.refused is not None:
            answer.set_exception(frame.refused.raised())
            answer.exception()  # nobody need ask for it
        elif isinstance(frame, Answer):
            cast("asyncio.Future[object]", answer).set_result(frame.value)
        else:
            cast("asyncio.Future[Receipts | None]", answer).set_result(frame.receipts)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._connection.recv(size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


class PipeProducer:
    """Implements sharding.publish.Producer by the one that the executor has."""

    def __init__(self, pipe: Pipe, log_id: str, cursor: bytes | None) -> None:
        self.log_id = log_id
        self.cursor = cursor
        self._pipe = pipe

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        _, receipts = await self._pipe.ask(frames.Publish(topic, frames.plain(messages), cursor))
        return receipts

    async def flush(self) -> None:
        await self._pipe.ask(frames.Flush())


class PipeLog(RunLog):
    """Sends each line at once, so that a process that is killed has told them all."""

    def __init__(self, key: AttemptKey, number: int, pipe: Pipe) -> None:
        super().__init__(key, number, _now)
        self._pipe = pipe

    def keep(self, line: LogLine) -> None:
        self._pipe.send(Logged(line))


class _Run:
    """The handler's run, on the main thread."""

    def __init__(self, pipe: Pipe, begin: Begin, cancellation: Cancellation, portal: Portal) -> None:
        self._pipe = pipe
        self._begin = begin
        self._portal = portal
        self._shard = AttemptShard(begin.assignment, cancellation, self._open_producer, self._pin, Plans())

    def outcome(self) -> Outcome:
        """How it ended, as of its own; what stopped it is known to the executor."""
        key, manner, result = self._begin.assignment.key, PLAIN, None
        ended: BaseException | None = None
        telling = self._portal.start(self._keep_telling())
        try:
            manner = pickle.loads(self._begin.manner)
            result = self._result(manner)
        except BaseException as error:  # sys.exit() ends the handler
            ended = harmless(error)
        telling.cancel()
        ending = Ending(key, _now(), _now(), self._shard.counters, manner=manner)
        return succeeded(ending, result or "") if ended is None else ended_by(ending, ended)

    def _result(self, manner: Manner) -> str:
        handler = _found(self._begin, manner)
        params = handler.decode(self._begin.assignment.params)
        assignment = self._begin.assignment
        log = PipeLog(assignment.key, assignment.attempt_number, self._pipe)
        context = Context(self._shard, params, self._begin.deadline, log, self._portal, state=ELSEWHERE)
        current.set(context)
        limits = self._begin.limits
        try:
            with using(None if limits is None else Limits(limits)):
                returned = handler.call(context, params)
        except (Retry, Fail, Skip) as word:
            returned = word
        if isinstance(returned, Retry | Fail | Skip):
            self._portal(self._shard.finish())
            raise returned
        result = encode_result(handler.name, returned)
        self._portal(self._shard.finish())
        return result

    @asynccontextmanager
    async def _open_producer(self, key: AttemptKey) -> AsyncIterator[PipeProducer]:
        answer, _ = await self._pipe.ask(frames.Open())
        log_id, cursor = cast("tuple[str, bytes | None]", answer)
        yield PipeProducer(self._pipe, log_id, cursor)

    async def _pin(self, attempt: AttemptKey, name: str, value: str) -> str:
        answer, _ = await self._pipe.ask(frames.Propose(name, value))
        return str(answer)

    async def _keep_telling(self) -> None:
        told = Counters()
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if (counters := self._shard.counters) != told:
                self._pipe.send(Counted(counters))
                told = counters


def _found(begin: Begin, manner: Manner) -> Handler:
    """The function that the executor has too, by import. Raises BadHandler."""
    name = begin.assignment.handler
    try:
        function: object = reduce(getattr, begin.path.split("."), importlib.import_module(begin.module))
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        reason = f"its process cannot import {begin.module}.{begin.path}: {line_of(error)}"
        raise BadHandler(name=name, reason=reason) from error
    if not callable(function):
        raise BadHandler(name=name, reason=f"{begin.module}.{begin.path} is no function in its process")
    return describe(name, cast(Function, function), (Context, AsyncContext), replace(manner))


async def _cancellation() -> Cancellation:
    """The executor minds the lease, and `_Leash` beside it."""
    return Cancellation(float("inf"), time.monotonic)


def _listen(pipe: Pipe, loop: asyncio.AbstractEventLoop, cancellation: Cancellation) -> None:
    """Passes on what the executor says. Where it is gone nobody may go on, nor what was started here."""
    tell: Callable[..., object] = loop.call_soon_threadsafe
    leash = _Leash()
    while (frame := pipe.receive()) is not None:
        match frame:
            case Stop(reason):
                tell(cancellation.request, Why.CANCELLED, reason)
            case Answer() | Acknowledged():
                tell(pipe.settle, frame)
            case Lease(seconds):
                leash.until = time.monotonic() + seconds
            case Begin():
                pass
    _die()


class _Leash:
    """Ends this process with its lease, should an executor that is frozen not do it."""

    def __init__(self) -> None:
        self.until = float("inf")  # by this process's clock
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def _watch(self) -> None:
        while time.monotonic() < self.until:
            time.sleep(WATCH_SECONDS)
        _die()


def _die() -> None:
    """With all that was started here."""
    os.killpg(0, signal.SIGKILL)


def _now() -> datetime:
    return datetime.now(UTC)
