"""Topics: create, describe, alter, delete, and a look at their messages that moves no group."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from admin.operations.paging import Page, page_of
from admin.ports import Topics
from broker.client.message import ReceivedMessage
from broker.client.operating.broker import BrokerState
from broker.client.operating.topics import QueueRange, TopicState
from broker.errors import UnknownQueue
from broker.model import TopicPolicy


@dataclass(frozen=True, slots=True)
class TopicChange:
    """What an edit asks for: 0 leaves a number of queues as it is, None the policy."""

    write_queues: int
    read_queues: int
    policy: Callable[[TopicPolicy], TopicPolicy] | None


@dataclass(frozen=True, slots=True)
class TopicDesk:
    """What can be done to topics. Everything may raise what the broker refuses with, and BrokerAway."""

    topics: Topics

    async def broker(self) -> BrokerState:
        """The broker as a whole."""
        return await self.topics.broker()

    async def list(self, *, after: str, size: int) -> Page[TopicState]:
        """By name, those behind one."""
        topics = sorted(await self.topics.list(), key=lambda topic: topic.name)
        return page_of([topic for topic in topics if topic.name > after][: size + 1], size, lambda topic: topic.name)

    async def get(self, name: str) -> TopicState:
        """Raises UnknownTopic."""
        return await self.topics.get(name)

    async def create(self, name: str, queues: int, policy: TopicPolicy | None) -> TopicState:
        """0 queues is the broker's default. Raises TopicExists, BadName."""
        return await self.topics.create(name, queues, policy)

    async def alter(self, name: str, change: TopicChange) -> TopicState:
        """Raises UnknownTopic, BadRequest, QueueNotDrained."""
        policy = None if change.policy is None else change.policy((await self.topics.get(name)).policy)
        return await self.topics.alter(
            name, write_queues=change.write_queues, read_queues=change.read_queues, policy=policy
        )

    async def delete(self, name: str) -> None:
        """Raises UnknownTopic."""
        await self.topics.delete(name)

    async def latest(self, name: str, queue: int | None, limit: int) -> Sequence[ReceivedMessage]:
        """The last messages of the topic or of one queue, in the order in which they were stored."""
        ranges = _chosen(await self.topics.get(name), queue)
        first = {number: max(held.lowest, held.end - limit) for number, held in ranges.items()}
        return (await self._read(name, ranges, first, limit))[-limit:]

    async def read(self, name: str, queue: int, offset: int, limit: int) -> Sequence[ReceivedMessage]:
        """Raises OffsetOutOfRange, UnknownQueue."""
        return await self.topics.read(name, queue, offset, limit)

    async def since(self, name: str, queue: int | None, at: datetime, limit: int) -> Sequence[ReceivedMessage]:
        """The first messages stored then or later."""
        ranges = _chosen(await self.topics.get(name), queue)
        offsets = await self.topics.find_offsets(name, at)
        return (await self._read(name, ranges, dict(enumerate(offsets)), limit))[:limit]

    async def find(self, name: str, key: str, limit: int) -> Sequence[ReceivedMessage]:
        """Messages with this key, the latest first."""
        return await self.topics.find(name, key, limit)

    async def _read(
        self, name: str, ranges: Mapping[int, QueueRange], first: Mapping[int, int], limit: int
    ) -> Sequence[ReceivedMessage]:
        """Up to `limit` of each queue that has any from its first offset on, by time."""
        wanted = [number for number, held in ranges.items() if first.get(number, held.end) < held.end]
        found = await asyncio.gather(*(self.topics.read(name, number, first[number], limit) for number in wanted))
        return sorted(
            (message for messages in found for message in messages),
            key=lambda message: (message.published_at_ms, message.queue, message.offset),
        )


def _chosen(topic: TopicState, queue: int | None) -> Mapping[int, QueueRange]:
    """The queues that are looked at, by number. Raises UnknownQueue."""
    ranges = dict(enumerate(topic.queues))
    if queue is None:
        return ranges
    if queue not in ranges:
        raise UnknownQueue(topic=topic.name, queue=queue, queues=len(ranges))
    return {queue: ranges[queue]}
