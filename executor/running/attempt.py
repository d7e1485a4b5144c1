"""One attempt as a pipeline: decode, open, run, finish, and its outcome."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog

from executor.errors import Cancelled, Fail, Retry, Skip
from executor.model import Assignment, AttemptKey, Counters, Outcome
from executor.registry import PLAIN, Handler, Isolation, Registry
from executor.running.cancellation import Cancellation, Why
from executor.running.context import AsyncContext, Context, current
from executor.running.isolation import Portal, contained, in_thread
from executor.running.middleware import around
from executor.running.outcome import Ending, encode_result, ended_by, succeeded
from executor.running.process.process import HandlerProcess
from executor.running.runlog import RunLog
from executor.running.shard import AttemptShard, OpenProducer, Pin
from executor.sharding.plans import Plans
from executor.sharding.publish import Producer
from protos.errors import InvalidArgument

log = structlog.get_logger(__name__)

STOP_SECONDS = 10.0  # a handler that was told to stop has so long before its attempt ends without it


@dataclass(frozen=True, slots=True)
class World:
    """What attempts need from outside."""

    registry: Registry
    open_producer: OpenProducer
    pin: Pin
    now: Callable[[], datetime]
    monotonic: Callable[[], float]  # seconds
    state: object = None  # what the app's lifespan yielded
    plans: Plans = field(default_factory=Plans)


class Attempt:
    """One try of a shard, from its assignment to its outcome. Belongs to the daemon's loop."""

    def __init__(self, world: World, assignment: Assignment, lease_until: float) -> None:
        self.assignment = assignment
        self.cancellation = Cancellation(lease_until, world.monotonic)
        self.log = RunLog(assignment.key, assignment.attempt_number, world.now)
        self._handler = world.registry.handlers.get(assignment.handler)
        self._process = self._of_its_own(world)
        opener = world.open_producer if self._process is None else _opened_there
        self.shard = AttemptShard(assignment, self.cancellation, opener, world.pin, world.plans)
        self.body: asyncio.Future[object] | None = None
        self._world = world

    @property
    def counters(self) -> Counters:
        return self.shard.counters if self._process is None else self._process.counters

    @property
    def gained(self) -> tuple[int, int]:
        """Rows handed out and messages acknowledged by this attempt alone."""
        return self.shard.gained if self._process is None else self._process.gained

    async def run(self) -> Outcome | None:
        """Runs the handler to its end, or until it was told to stop and had its time for that.

        None where the lease was lost: the shard is another's, and what this attempt found is nobody's concern.
        """
        key, started_at = self.assignment.key, self._world.now()
        log.info("attempt started", action="attempt_started", attempt=str(key), handler=self.assignment.handler)
        try:
            outcome = await self._outcome(started_at)
            has_lapsed = self.cancellation.has_lapsed
        finally:
            self.cancellation.request(Why.CANCELLED, "it has ended")  # for what its handler left behind
            await self.shard.close()
        self._tell(outcome, has_lapsed)
        return None if has_lapsed else outcome

    async def _outcome(self, started_at: datetime) -> Outcome:
        try:
            result = await self._carried_out(started_at)
        except Exception as error:
            return ended_by(self._ending(started_at), error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the daemon leaves; else it is the handler that was cancelled
                raise
            return ended_by(self._ending(started_at), error)
        return succeeded(self._ending(started_at), result)

    async def _carried_out(self, started_at: datetime) -> str:
        self.cancellation.check()  # the assignment may have waited while this process slept
        handler = self._world.registry.get(self.assignment.handler)
        params = handler.decode(self.assignment.params)
        deadline = started_at + self.assignment.timeout if self.assignment.timeout else None
        kind = AsyncContext if handler.is_async else Context
        portal = Portal(asyncio.get_running_loop())
        context = kind(self.shard, params, deadline, self.log, portal, state=self._world.state)
        try:
            returned = await self._watched(handler, context, params)
        except (Retry, Fail, Skip) as word:
            returned = word
        if isinstance(returned, Retry | Fail | Skip):
            await self.shard.finish()
            raise returned
        result = encode_result(handler.name, returned)
        await self.shard.finish()
        return result

    async def _watched(self, handler: Handler, context: Context | AsyncContext, params: object) -> object:
        """Runs the handler beside its timeout and the orders to stop."""
        self.body = self._begin(handler, context, params)
        stopping = asyncio.ensure_future(self.cancellation.wait())
        timer = self._start_timer()
        try:
            await asyncio.wait((self.body, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not self.body.done():
                await self._end(self.body, can_be_cancelled=handler.isolation is not Isolation.THREAD)
        finally:
            stopping.cancel()
            if self._process is not None:
                self.body.cancel()  # also where the daemon leaves: it must not outlive that
            if timer is not None:
                timer.cancel()
        if not self.body.done():
            raise Cancelled(reason="its handler went on and was left behind")
        return self.body.result()

    def _begin(self, handler: Handler, context: Context | AsyncContext, params: object) -> asyncio.Future[object]:
        token = current.set(context)
        try:
            call = partial(self._called, handler, context, params)
            layers = self._world.registry.middleware
            return asyncio.ensure_future(contained(around(layers, context, call)()) if layers else call())
        finally:
            current.reset(token)

    def _called(self, handler: Handler, context: Context | AsyncContext, params: object) -> Awaitable[object]:
        self.cancellation.check()  # a layer may have taken its time
        if self._process is not None:
            return contained(self._process.run(context.deadline))
        if handler.is_async:
            return _awaited(handler, context, params)
        return in_thread(partial(handler.call, context, params), name=str(self.assignment.key))

    async def _end(self, body: asyncio.Future[object], *, can_be_cancelled: bool) -> None:
        """A thread stops at its next batch; a coroutine is cancelled and a process killed, at once or, in a drain, when
        its time is over.
        """
        if can_be_cancelled and self.cancellation.why is not Why.RELEASED:
            body.cancel()
        await asyncio.wait((body,), timeout=STOP_SECONDS)
        if can_be_cancelled and not body.done():
            body.cancel()
            await asyncio.wait((body,), timeout=STOP_SECONDS)

    def _start_timer(self) -> asyncio.TimerHandle | None:
        timeout = self.assignment.timeout
        if timeout is None:
            return None
        order = partial(self.cancellation.request, Why.TIMED_OUT, "its time is over")
        return asyncio.get_running_loop().call_later(timeout.total_seconds(), order)

    def _ending(self, started_at: datetime) -> Ending:
        return Ending(
            key=self.assignment.key,
            started_at=started_at,
            ended_at=self._world.now(),
            counters=self.counters,
            why=self.cancellation.why,
            reason=self.cancellation.reason,
            timeout=self.assignment.timeout,
            manner=self._handler.manner if self._handler is not None else PLAIN,
        )

    def _of_its_own(self, world: World) -> HandlerProcess | None:
        if self._handler is None or self._handler.isolation is not Isolation.PROCESS:
            return None
        return HandlerProcess(
            self._handler,
            self.assignment,
            cancellation=self.cancellation,
            log=self.log,
            open_producer=world.open_producer,
            pin=world.pin,
        )

    def _tell(self, outcome: Outcome, has_lapsed: bool) -> None:
        log.info(
            "attempt ended",
            action="attempt_ended",
            attempt=str(outcome.key),
            state=str(outcome.state),
            error_code=outcome.error_code,
            error=outcome.error_message,
            rows=outcome.counters.rows,
            published=outcome.counters.published,
            lease_lost=has_lapsed,
        )


def _opened_there(key: AttemptKey) -> AbstractAsyncContextManager[Producer]:
    """One that is opened here too would fence the handler's."""
    raise InvalidArgument(reason=f"the producer of {key} belongs to its handler, which runs in a process of its own")


async def _awaited(handler: Handler, context: AsyncContext | Context, params: object) -> object:
    return await contained(handler.call(context, params))  # type: ignore[arg-type]  # of an async handler
