"""What a handler publishes with: one topic's way into the shard's producer."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from broker.client.message import Message
from executor.running.isolation import Portal
from executor.running.shard import AttemptShard
from executor.sharding.cursor import Cursor


class AsyncPublisher:
    """Publishes to a topic, each call one atomic unit; leaving the block waits until all is acknowledged."""

    def __init__(self, shard: AttemptShard, topic: str) -> None:
        self._shard = shard
        self._topic = topic

    async def publish(self, messages: Iterable[Message], *, checkpoint: Cursor | None = None) -> None:
        """Sends the messages, and with them that the scan is done up to `checkpoint`: a batch's cursor.

        Returns once they are on their way, while the broker keeps up. Raises CheckpointOrder or TooLarge before
        anything is sent, Cancelled, and what the broker refused before.
        """
        publisher = await self._shard.open()
        await publisher.publish(self._topic, list(messages), checkpoint)

    async def flush(self) -> None:
        """Returns when everything published is durable."""
        publisher = await self._shard.open()
        await publisher.flush()

    async def __aenter__(self) -> Self:
        await self._shard.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.flush()


class Publisher:
    """AsyncPublisher for a handler that is a plain function."""

    def __init__(self, publisher: AsyncPublisher, portal: Portal) -> None:
        self._publisher = publisher
        self._portal = portal

    def publish(self, messages: Iterable[Message], *, checkpoint: Cursor | None = None) -> None:
        """See AsyncPublisher.publish."""
        self._portal(self._publisher.publish(list(messages), checkpoint=checkpoint))

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
