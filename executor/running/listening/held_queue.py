"""One queue under one generation: its messages are handled portion by portion, in their order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, assert_never

import structlog

from broker.client.message import Batch, ReceivedMessage
from broker.errors import StaleTerm
from broker.model import GroupPolicy
from executor.running.listening.calling import Caller
from executor.running.listening.portions import Portion, next_attempt, split
from executor.running.listening.relaying import Halted, Made, Refused, Relay
from executor.running.listening.stopping import Stopping
from executor.running.listening.verdicts import Again, Done, Failed, Hopeless, Partly, Verdict, verdict_on

log = structlog.get_logger(__name__)

MOST_UNCOMMITTED = 8  # batches, as long as more wait: what a relay publishes says how far it is


class Commits(Protocol):
    """How far a queue is done, as the broker knows it. Raises NotOwner when it has gone to another member."""

    async def commit(self, batch: Batch, before: int | None = None) -> None: ...

    async def give_up(self, *messages: ReceivedMessage, error: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What all queues of a listener share."""

    caller: Caller
    commits: Commits
    policy: Callable[[], Awaitable[GroupPolicy]]
    stopping: Stopping
    leaving: asyncio.Event = field(default_factory=asyncio.Event)  # set before those at work are cancelled


class HeldQueue:
    """Raises NotOwner or StaleTerm where the queue has gone to another member, who goes on with what is not done."""

    def __init__(self, desk: Desk, generation: int, relay: Relay | None) -> None:
        self.generation = generation
        self._desk = desk
        self._relay = relay
        self._agenda: deque[Portion] = deque()
        self._begin: int | None = None  # what lies before is done; None: a relay does not know yet
        self._finished: Batch | None = None  # the last one, not committed yet
        self._uncommitted = 0

    async def handle(self, batch: Batch) -> None:
        """All of it, unless the order to stop comes. Where that is known may wait for `settle`."""
        try:
            unread = await self._unread(batch)
        except Halted:
            return
        if unread:
            self._agenda.extend(Portion(batch, messages) for messages in self._desk.caller.portions(unread))
        self._finished = batch
        self._uncommitted += 1
        await self._work()
        if self._relay is None or self._uncommitted >= MOST_UNCOMMITTED:
            await self.settle()

    async def settle(self) -> None:
        """Commits all that was handled, once what it led to is durable."""
        while self._finished is not None:
            try:
                await self._flush()
            except Refused as refused:
                self._put_back(refused)
                await self._work()
            except Halted:
                self._leave()
            else:
                await self._desk.commits.commit(self._finished)
                self._finished, self._uncommitted = None, 0

    @property
    def is_behind(self) -> bool:
        """Whether something is to be settled."""
        return self._finished is not None

    async def close(self) -> None:
        """Gives up what is not settled."""
        if self._relay is not None:
            await self._relay.close()

    async def _unread(self, batch: Batch) -> Sequence[ReceivedMessage]:
        if self._relay is None:
            return batch
        if self._begin is None:
            self._begin = await self._open(self._relay, batch)
        begin = self._begin
        return batch if begin <= batch.first_offset else [each for each in batch if each.offset >= begin]

    async def _open(self, relay: Relay, batch: Batch) -> int:
        while True:
            try:
                return await relay.open()
            except StaleTerm as stale:
                await self._desk.commits.commit(batch, batch.first_offset)  # unless the queue is another's
                relay.outbid(stale)  # who had it before may do the same, and must give way then

    async def _work(self) -> None:
        """Until nothing is left to do, or it shall stop."""
        while self._agenda:
            portion = self._agenda.popleft()
            verdict = portion.verdict
            try:
                verdict = verdict or await self._call(portion)
                if verdict is None:
                    await self._commit(portion)
                    self._leave()
                else:
                    await self._follow(portion, verdict)
            except Refused as refused:
                if all(made.portion is not portion for made in refused.left):  # it is still to be followed
                    self._agenda.appendleft(replace(portion, verdict=verdict))
                self._put_back(refused)
            except Halted:
                self._leave()

    async def _call(self, portion: Portion) -> Verdict | None:
        """None: it shall stop."""
        stopping = self._desk.stopping
        if portion.wait_seconds is not None:
            await self._commit(portion)  # the wait may be long
            await stopping.unless(asyncio.sleep(portion.wait_seconds))
        try:
            return await self._desk.caller.call(portion.messages, stopping.is_set)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or stopping.is_set() or self._desk.leaving.is_set():
                raise
            while task.uncancel():  # the function did that itself: no reason to pass over its messages
                pass
            return Failed("the function cancelled the task in which it ran")

    async def _follow(self, portion: Portion, verdict: Verdict) -> None:
        if isinstance(verdict, Done):
            if verdict.publish and self._relay is not None:
                await self._relay.publish(Made(portion, verdict.publish))
            return
        if parts := split(portion, verdict):
            self._agenda.extendleft(reversed(parts))
            return
        match verdict:
            case Failed() | Again():
                if (following := next_attempt(portion, verdict, await self._desk.policy())) is not None:
                    self._agenda.appendleft(following)
                else:
                    await self._give_up(portion, verdict.error)
            case Hopeless(error):
                await self._give_up(portion, error)
            case Partly():
                raise AssertionError  # has been split
            case _:
                assert_never(verdict)

    async def _give_up(self, portion: Portion, error: str) -> None:
        await self._commit(portion)  # giving up alone would not tell that the queue is another's
        await self._desk.commits.give_up(*portion.messages, error=error)

    async def _commit(self, portion: Portion) -> None:
        """What lies before the portion, once what it led to is durable."""
        await self._flush()
        await self._desk.commits.commit(portion.batch, portion.begin)

    async def _flush(self) -> None:
        if self._relay is not None:
            await self._relay.flush()

    def _put_back(self, refused: Refused) -> None:
        """The refusal is a failure of the call that led to it; what follows that waits for its turn again."""
        first, *others = refused.left
        at, error = first.portion.messages[0], refused.error
        where = {"topic": at.topic, "queue": at.queue, "offset": at.offset}
        log.error("publish refused", action="relay_refused", error_code=error.code, error=str(error), **where)
        portions = [replace(first.portion, verdict=verdict_on(refused.error))]
        portions += [replace(made.portion, verdict=Done(made.messages)) for made in others]
        self._agenda.extendleft(reversed(portions))

    def _leave(self) -> None:
        """For the next owner."""
        self._agenda.clear()
        self._finished, self._uncommitted = None, 0
