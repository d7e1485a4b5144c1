"""Gives a listener its batches: commits what it has done, repeats what it has not."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Protocol, TypeVar

import structlog

from broker.client.message import Batch, Message
from broker.errors import NotOwner
from executor.registry import Listener
from executor.running.isolation import contained, in_thread
from protos.errors import ShardcastError

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.2
MAX_WAIT_SECONDS = 30.0


class Consumer(Protocol):
    """One member of a consumer group."""

    async def __anext__(self) -> Batch: ...

    async def commit(self, batch: Batch) -> None: ...


OpenConsumer = Callable[[str, Sequence[str]], AbstractAsyncContextManager[Consumer]]
"""(group, topics) -> a member of the group while it is entered."""


class Listening:
    """Runs one listener until it is told to stop; then the batch at hand is finished first."""

    def __init__(self, listener: Listener, open_consumer: OpenConsumer) -> None:
        self._listener = listener
        self._open_consumer = open_consumer
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._stopping.is_set():
            try:
                await self._consume()
            except ShardcastError as error:
                log.error("consumer failed", action="consumer_failed", group=self._listener.group, error=str(error))
                await self._unless_stopping(asyncio.sleep(wait))
                wait = min(wait * 2, MAX_WAIT_SECONDS)

    async def _consume(self) -> None:
        async with AsyncExitStack() as stack:
            opening = self._open_consumer(self._listener.group, self._listener.topics)
            consumer = await self._unless_stopping(stack.enter_async_context(opening))
            while consumer is not None and not self._stopping.is_set():
                batch = await self._unless_stopping(consumer.__anext__())
                if batch is not None and await self._is_handled(batch):
                    await self._commit(consumer, batch)

    async def _is_handled(self, batch: Batch) -> bool:
        """Calls the listener until it succeeds; False if it was told to stop before."""
        messages, wait = list(batch), FIRST_WAIT_SECONDS
        while True:
            try:
                await self._call(messages)
            except Exception as error:
                log.exception(
                    "listener failed",
                    action="listener_failed",
                    group=self._listener.group,
                    topic=batch.topic,
                    queue=batch.queue,
                    offset=batch.first_offset,
                    error_code=type(error).__name__,
                )
                await self._unless_stopping(asyncio.sleep(wait))
                wait = min(wait * 2, MAX_WAIT_SECONDS)
            else:
                return True
            if self._stopping.is_set():
                return False

    async def _call(self, messages: Sequence[Message]) -> None:
        function = self._listener.function
        if not self._listener.is_async:
            await in_thread(partial(function, messages), name=self._listener.group)
            return
        returned = function(messages)
        if isinstance(returned, Awaitable):
            await contained(returned)

    async def _commit(self, consumer: Consumer, batch: Batch) -> None:
        try:
            await consumer.commit(batch)
        except NotOwner as error:  # the next owner gets the batch again
            log.warning("batch was another's", action="commit_lost", group=self._listener.group, error=str(error))

    async def _unless_stopping(self, awaiting: Awaitable[T]) -> T | None:
        working = asyncio.ensure_future(awaiting)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()
