"""Reading by offset: each queue in its order, queues side by side; a message that fails holds back its own queue."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import structlog

from broker.client.message import Batch, ReceivedMessage
from broker.errors import NotOwner
from broker.model import GroupPolicy
from executor.running.listening.calling import Again, Caller, Done, Hopeless, Messages, Verdict, halves, is_narrowed
from executor.running.listening.stopping import Stopping

log = structlog.get_logger(__name__)

AHEAD = 2  # batches that wait behind the one at hand; then the queue is paused

QueueKey = tuple[str, int]


class OffsetConsumer(Protocol):
    """One member of a group that reads by offset."""

    async def __anext__(self) -> Batch: ...

    async def commit(self, batch: Batch, before: int | None = None) -> None: ...

    async def give_up(self, *messages: ReceivedMessage, error: str) -> None: ...

    def pause(self, topic: str, queue: int) -> None: ...

    def resume(self, topic: str, queue: int) -> None: ...


class InOrder:
    """Gives batches to a listener. What is not done when it is told to stop comes again, to whoever gets the queue."""

    def __init__(
        self,
        caller: Caller,
        consumer: OffsetConsumer,
        policy: Callable[[], Awaitable[GroupPolicy]],
        stopping: Stopping,
    ) -> None:
        self._caller = caller
        self._consumer = consumer
        self._policy = policy
        self._stopping = stopping
        self._waiting: defaultdict[QueueKey, deque[Batch]] = defaultdict(deque)
        self._working: set[QueueKey] = set()

    async def run(self) -> None:
        """Until it is told to stop and what was at hand is settled. Raises what makes reading impossible."""
        async with asyncio.TaskGroup() as group:
            while (batch := await self._stopping.unless(self._consumer.__anext__())) is not None:
                key = (batch.topic, batch.queue)
                self._waiting[key].append(batch)
                if len(self._waiting[key]) >= AHEAD:
                    self._consumer.pause(*key)
                if key not in self._working:
                    self._working.add(key)
                    group.create_task(self._work(key))

    async def _work(self, key: QueueKey) -> None:
        try:
            while self._waiting[key] and not self._stopping.is_set():  # else a later batch would commit this one
                batch = self._waiting[key].popleft()
                self._consumer.resume(*key)
                await self._settle(batch)
        finally:
            self._working.discard(key)

    async def _settle(self, batch: Batch) -> None:
        try:
            for messages in self._caller.portions(batch):
                done = await self._in_order(batch, messages)
                if done < _end(messages):
                    await self._consumer.commit(batch, done)
                    return
            await self._consumer.commit(batch)
        except NotOwner as error:  # the next owner gets what was not committed
            log.warning("batch was another's", action="commit_lost", topic=batch.topic, error=str(error))
            waiting = self._waiting[batch.topic, batch.queue]
            self._waiting[batch.topic, batch.queue] = deque(b for b in waiting if b.generation != batch.generation)

    async def _in_order(self, batch: Batch, messages: Messages) -> int:
        """Settles messages that follow each other; returns the offset before which all is settled."""
        verdict = await self._caller.call(messages, self._stopping.is_set)
        if verdict is None:
            return messages[0].offset
        if not is_narrowed(messages, verdict):
            return await self._persist(batch, messages, verdict)
        first, second = halves(messages)
        done = await self._in_order(batch, first)
        return done if done < _end(first) else await self._in_order(batch, second)

    async def _persist(self, batch: Batch, messages: Messages, verdict: Verdict | None) -> int:
        """Tries again in place until it succeeds, is given up, or shall stop."""
        attempt = 1
        while verdict is not None and not isinstance(verdict, Done):
            policy = await self._policy()
            if isinstance(verdict, Hopeless) or attempt >= policy.attempts:
                await self._consumer.give_up(*messages, error=verdict.error)  # and commits
                break
            await self._consumer.commit(batch, messages[0].offset)  # the wait may be long
            await self._stopping.unless(asyncio.sleep(_wait_seconds(verdict, policy, attempt)))
            attempt += 1
            messages = [replace(message, attempt=attempt) for message in messages]
            verdict = await self._caller.call(messages, self._stopping.is_set)
        return messages[0].offset if verdict is None else _end(messages)


def _wait_seconds(verdict: Verdict, policy: GroupPolicy, attempt: int) -> float:
    if isinstance(verdict, Again) and verdict.after is not None:
        return verdict.after.total_seconds()
    return policy.backoff.wait_ms(attempt) / 1000


def _end(messages: Messages) -> int:
    return messages[-1].offset + 1
