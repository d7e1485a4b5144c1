"""Reading by offset: each queue in its order, queues side by side; a message that fails holds back its own queue."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Protocol

import structlog

from broker.client.message import Batch
from broker.errors import NotOwner, StaleTerm
from executor.running.listening.held_queue import Commits, Desk, HeldQueue
from executor.running.listening.relaying import Relay

log = structlog.get_logger(__name__)

AHEAD = 2  # batches that wait behind the one at hand; then the queue is paused

QueueKey = tuple[str, int]


class OffsetConsumer(Commits, Protocol):
    """One member of a group that reads by offset."""

    async def __anext__(self) -> Batch: ...

    def pause(self, topic: str, queue: int) -> None: ...

    def resume(self, topic: str, queue: int) -> None: ...


class InOrder:
    """Gives batches to a listener. What is not done when it is told to stop comes again, to whoever gets the queue."""

    def __init__(
        self, consumer: OffsetConsumer, desk: Desk, relay_of: Callable[[Batch], Relay | None] = lambda _: None
    ) -> None:
        """`relay_of` gives what publishes for the queue and the generation of a batch."""
        self._consumer = consumer
        self._desk = desk
        self._stopping = desk.stopping
        self._relay_of = relay_of
        self._waiting: defaultdict[QueueKey, deque[Batch]] = defaultdict(deque)
        self._held: dict[QueueKey, HeldQueue] = {}
        self._working: set[QueueKey] = set()
        self._lost: dict[QueueKey, int] = {}  # generations

    async def run(self) -> None:
        """Until it is told to stop and what was at hand is settled. Raises what makes reading impossible."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._hand_out(group)
        finally:
            for held in self._held.values():
                await held.close()

    async def _hand_out(self, group: asyncio.TaskGroup) -> None:
        try:
            while (batch := await self._stopping.unless(self._consumer.__anext__())) is not None:
                key = (batch.topic, batch.queue)
                self._waiting[key].append(batch)
                if len(self._waiting[key]) >= AHEAD:
                    self._consumer.pause(*key)
                if key not in self._working:
                    self._working.add(key)
                    group.create_task(self._work(key))
        except BaseException:
            self._desk.leaving.set()
            raise

    async def _work(self, key: QueueKey) -> None:
        try:
            while True:
                if self._waiting[key] and not self._stopping.is_set():  # else a later batch would commit this one
                    batch = self._waiting[key].popleft()
                    self._consumer.resume(*key)
                    await self._handle(key, batch)
                elif self._is_behind(key):
                    await self._settle(key)
                else:
                    return
        except BaseException:
            self._desk.leaving.set()
            raise
        finally:
            self._working.discard(key)

    async def _handle(self, key: QueueKey, batch: Batch) -> None:
        if self._lost.get(key) == batch.generation:  # behind what was given up: it would pass for done
            return
        if key in self._held and self._held[key].generation != batch.generation:
            await self._settle(key)
            await self._drop(key)
        if key not in self._held:
            self._held[key] = HeldQueue(self._desk, batch.generation, self._relay_of(batch))
        try:
            await self._held[key].handle(batch)
        except (NotOwner, StaleTerm) as error:
            await self._lose(key, error)

    def _is_behind(self, key: QueueKey) -> bool:
        return key in self._held and self._held[key].is_behind

    async def _settle(self, key: QueueKey) -> None:
        try:
            await self._held[key].settle()
        except (NotOwner, StaleTerm) as error:
            await self._lose(key, error)

    async def _lose(self, key: QueueKey, error: NotOwner | StaleTerm) -> None:
        """The next owner gets what was not committed."""
        log.warning("queue was another's", action="commit_lost", topic=key[0], queue=key[1], error=str(error))
        generation = self._lost[key] = self._held[key].generation
        self._waiting[key] = deque(batch for batch in self._waiting[key] if batch.generation != generation)
        await self._drop(key)

    async def _drop(self, key: QueueKey) -> None:
        if (held := self._held.pop(key, None)) is not None:
            await held.close()
