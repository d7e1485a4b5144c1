"""Reading by lease: messages are handled side by side, and each is settled for itself."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from broker.client.message import ReceivedMessage
from broker.model import LONGEST_LEASE_MS
from executor.registry import Listener
from executor.running.listening.calling import Caller
from executor.running.listening.stopping import Stopping
from executor.running.listening.verdicts import (
    Again,
    Done,
    Failed,
    Hopeless,
    Messages,
    Partly,
    Verdict,
    halves,
    is_narrowed,
)
from protos.errors import ShardcastError

log = structlog.get_logger(__name__)

EXTENSIONS_A_LEASE = 3
LONGEST_AFTER = timedelta(milliseconds=LONGEST_LEASE_MS)


class LeaseConsumer(Protocol):
    """One member of a group that reads by lease. What is settled too late was or will be handed out again."""

    async def __anext__(self) -> Sequence[ReceivedMessage]: ...

    async def acknowledge(self, *messages: ReceivedMessage) -> None: ...

    async def retry(self, *messages: ReceivedMessage, after: timedelta | None = None, error: str = "") -> None: ...

    async def give_up(self, *messages: ReceivedMessage, error: str) -> None: ...

    async def give_back(self, *messages: ReceivedMessage) -> None: ...

    async def extend(self, *messages: ReceivedMessage, by: timedelta) -> None: ...


class SideBySide:
    """Gives leased messages to a listener; keeps their leases while it is at work, however long that takes."""

    def __init__(self, listener: Listener, caller: Caller, consumer: LeaseConsumer, stopping: Stopping) -> None:
        self._slots = listener.slots
        self._lease = listener.lease
        self._caller = caller
        self._consumer = consumer
        self._stopping = stopping
        self._held: dict[str, ReceivedMessage] = {}  # by message id
        self._at_work = 0  # calls that were begun or wait for a slot
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Until it is told to stop, or reading is impossible, and what was at hand is settled. Raises the latter."""
        async with asyncio.TaskGroup() as group:
            extending = group.create_task(self._keep_extending())
            async with asyncio.TaskGroup() as working:
                failure = await self._hand_out(working)
            extending.cancel()
        if failure is not None:
            raise failure

    async def _hand_out(self, working: asyncio.TaskGroup) -> ShardcastError | None:
        """Returns why there can be no more messages; None: it shall stop."""
        try:
            while (messages := await self._next()) is not None:
                self._held |= {message.message_id: message for message in messages}
                for portion in self._caller.portions(messages):
                    self._at_work += 1
                    working.create_task(self._handle(portion))
        except ShardcastError as error:
            return error
        return None

    async def _next(self) -> Sequence[ReceivedMessage] | None:
        """More messages, once there is a slot for one; None when it shall stop."""
        while self._at_work >= self._slots and not self._stopping.is_set():
            self._has_room.clear()
            await self._stopping.unless(self._has_room.wait())
        return await self._stopping.unless(self._consumer.__anext__())

    async def _handle(self, messages: Messages) -> None:
        try:
            await self._settle(messages, await self._judge(messages))
        finally:
            self._drop(messages)
            self._at_work -= 1
            self._has_room.set()

    async def _judge(self, messages: Messages) -> Verdict | None:
        """None: the order to stop came before the call."""
        return await self._caller.call(messages, self._stopping.is_set)

    async def _settle(self, messages: Messages, verdict: Verdict | None) -> None:
        while isinstance(verdict, Partly):
            messages = await self._take_rest(messages, verdict)
            verdict = await self._judge(messages)
        if verdict is not None and is_narrowed(messages, verdict):
            for half in halves(messages):
                await self._settle(half, await self._judge(half))
            return
        try:
            await self._tell(messages, verdict)
        except ShardcastError as error:  # the lease has ended: the message comes again, here or elsewhere
            log.warning("message was another's", action="settle_lost", topic=messages[0].topic, error=str(error))
        self._drop(messages)

    async def _take_rest(self, messages: Messages, verdict: Partly) -> Messages:
        """What is not done; it stays leased until its time has come, and others have its slot meanwhile."""
        done, rest = messages[: verdict.count], messages[verdict.count :]
        if done:
            await self._settle(done, Done())
        self._at_work -= 1
        self._has_room.set()
        await self._stopping.unless(asyncio.sleep(verdict.after.total_seconds()))
        self._at_work += 1
        return rest

    async def _tell(self, messages: Messages, verdict: Verdict | None) -> None:
        consumer = self._consumer
        match verdict:
            case None:
                await consumer.give_back(*messages)
            case Done() | Partly():  # the latter has been split
                await consumer.acknowledge(*messages)
            case Failed(error):
                await consumer.retry(*messages, error=error)
            case Again(error, after):
                await consumer.retry(*messages, after=_within(after), error=error)
            case Hopeless(error):
                await consumer.give_up(*messages, error=error)

    def _drop(self, messages: Iterable[ReceivedMessage]) -> None:
        for message in messages:
            self._held.pop(message.message_id, None)

    async def _keep_extending(self) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / EXTENSIONS_A_LEASE)
            if self._held:
                try:
                    await self._consumer.extend(*self._held.values(), by=self._lease)
                except ShardcastError as error:
                    log.warning("leases were not extended", action="extend_failed", error=str(error))


def _within(after: timedelta | None) -> timedelta | None:
    """What the broker takes: a message whose word it refused would come again at once, or keep its lease."""
    return after if after is None else min(max(after, timedelta(0)), LONGEST_AFTER)
