"""Runs one listener until it is told to stop, and joins its group again when that fails."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

import structlog

from broker.client.message import Batch
from broker.model import GroupPolicy, Mode
from executor.registry import Listener
from executor.running.listening.calling import Caller
from executor.running.listening.held_queue import Desk
from executor.running.listening.in_order import InOrder, OffsetConsumer
from executor.running.listening.relaying import Relay, RelayProducer, Source
from executor.running.listening.side_by_side import LeaseConsumer, SideBySide
from executor.running.listening.stopping import Stopping
from protos.errors import ShardcastError

log = structlog.get_logger(__name__)

FIRST_WAIT_SECONDS = 0.2
MAX_WAIT_SECONDS = 30.0


class Groups(Protocol):
    """The broker's consumer groups, as a listener needs them; a member is one while it is entered."""

    def by_offset(self, listener: Listener) -> AbstractAsyncContextManager[OffsetConsumer]: ...

    def by_lease(self, listener: Listener) -> AbstractAsyncContextManager[LeaseConsumer]: ...

    def producer(self, producer_id: str, term: int) -> AbstractAsyncContextManager[RelayProducer]:
        """Entering fences every other one of this id; waits while the broker is away. Raises StaleTerm."""

    async def policy(self, group: str) -> GroupPolicy: ...


class Listening:
    """Runs one listener until it is told to stop; then calls at hand are finished first, and the rest is given back."""

    def __init__(self, listener: Listener, groups: Groups, state: object = None) -> None:
        self._listener = listener
        self._groups = groups
        self._caller = Caller(listener, state)
        self._stopping = Stopping()
        self._known_policy = GroupPolicy()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Until it is told to stop. What it meets in the meantime is logged, and it goes on."""
        wait, clock = FIRST_WAIT_SECONDS, asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            try:
                await self._consume()
            except* ShardcastError as errors:
                told = "; ".join(sorted({str(error) for error in _leaves(errors)}))
                log.error("consumer failed", action="consumer_failed", group=self._listener.group, error=told)
                wait = FIRST_WAIT_SECONDS if clock() - began > MAX_WAIT_SECONDS else wait
                await self._stopping.unless(asyncio.sleep(wait))
                wait = min(wait * 2, MAX_WAIT_SECONDS)

    async def _consume(self) -> None:
        listener = self._listener
        async with AsyncExitStack() as stack:
            if listener.mode is Mode.OFFSET:
                reader = await self._stopping.unless(stack.enter_async_context(self._groups.by_offset(listener)))
                if reader is not None:
                    desk = Desk(self._caller, reader, self._policy, self._stopping)
                    await InOrder(reader, desk, self._relay_of).run()
            else:
                member = await self._stopping.unless(stack.enter_async_context(self._groups.by_lease(listener)))
                if member is not None:
                    await SideBySide(listener, self._caller, member, self._stopping).run()

    def _relay_of(self, batch: Batch) -> Relay | None:
        group, to = self._listener.group, self._listener.to
        if to is None:
            return None
        source = Source(group, batch.topic, batch.queue, batch.generation, batch.topic_id, to)
        return Relay(source, self._groups.producer, self._stopping)

    async def _policy(self) -> GroupPolicy:
        """As it is now, or as it was known last: while the broker is away a message is tried all the same."""
        try:
            self._known_policy = await self._groups.policy(self._listener.group)
        except ShardcastError as error:
            log.warning("policy not read", action="policy_failed", group=self._listener.group, error=str(error))
        return self._known_policy


def _leaves(bundle: BaseExceptionGroup[ShardcastError]) -> list[ShardcastError]:
    return [
        leaf
        for error in bundle.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
