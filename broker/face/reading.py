"""Reading by offset, with a long poll."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from broker.delivery.filtering import MOST_SCANNED, Filter, read_tagged, without
from broker.delivery.pacing import Pacing
from broker.delivery.reader import read_batch
from broker.delivery.waiters import Sign
from broker.errors import OffsetOutOfRange, TopicPermission, UnknownQueue, UnknownTopic
from broker.face.parts import Parts
from broker.model import Fetched, GroupName, QueueKey, TopicName

FETCH_BYTES = 8 << 20  # of records in one answer
FETCH_MESSAGES = 32_768
LITTLE = 16 << 10
"""Bytes of publishes for which no reader rests: a relay that is far behind publishes a little of its own."""

Reserve = Callable[[int], Awaitable[None]]
"""Returns when whoever asked may get so many bytes."""


async def at_once(_size: int) -> None:
    """There is room."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages a fetch asks for, and how long it waits for the first one.

    No tags: whatever theirs are. No group: a look, whatever the rate and the order of any group.
    """

    topic: TopicName
    queue: int
    offset: int
    max_messages: int
    max_bytes: int
    wait_seconds: float
    tags: frozenset[bytes] = frozenset()
    group: GroupName | None = None


class Reading:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pacing = Pacing(lambda: parts.writer.waiting_bytes > LITTLE)

    async def fetch(self, wanted: Wanted, reserve: Reserve = at_once) -> Fetched:
        """Raises OffsetOutOfRange, RecordDamaged, TopicPermission, UnknownQueue, UnknownTopic.

        Nothing in time is an empty answer; `next_offset` is behind what was looked at meanwhile.
        """
        parts, loop = self._parts, asyncio.get_running_loop()
        topic = await parts.topic(wanted.topic)
        key = QueueKey(topic.topic_id, wanted.queue)
        queue = parts.engine.queues.queue(key)
        until = loop.time() + wanted.wait_seconds
        while True:
            readable, pause = self._readable(key, wanted), self._pause(wanted)
            if readable and not pause:
                await reserve(min(wanted.max_bytes, FETCH_BYTES))
                async with self._pacing.turn(queue.end - wanted.offset):
                    fetched = await parts.on_disk(self._read, key, wanted, readable)
                self._count(wanted, fetched)
                if not fetched.bodies:
                    self._readable(key, wanted)  # or it was retired meanwhile
                if fetched.bodies or loop.time() >= until or parts.stopping.is_set():
                    return fetched
                wanted = replace(wanted, offset=fetched.next_offset)
            elif loop.time() >= until or parts.stopping.is_set():
                at = wanted.offset
                return Fetched(key.topic_id, at, queue.lowest, queue.end, next_offset=at)
            else:
                left = until - loop.time()
                await self._wait(key, wanted, min(left, pause) if pause else left)

    def _readable(self, key: QueueKey, wanted: Wanted) -> int:
        """How many messages may be read now. The topic may have been altered or deleted since the last look."""
        topic = self._parts.catalog.topics.by_id(key.topic_id)
        if topic is None:
            raise UnknownTopic(topic=wanted.topic)
        if not topic.policy.is_readable:
            raise TopicPermission(topic=topic.name, ability="readable")
        if wanted.queue >= topic.read_queues:
            raise UnknownQueue(topic=topic.name, queue=wanted.queue, queues=topic.read_queues)
        queue = self._parts.engine.queues.queue(key)
        if not queue.lowest <= wanted.offset <= queue.end:
            raise OffsetOutOfRange(
                offset=wanted.offset, topic=topic.name, queue=wanted.queue, lowest=queue.lowest, end=queue.end
            )
        end = queue.end if wanted.group is None else self._parts.readable_end(topic, wanted.queue, wanted.group)
        return max(0, end - wanted.offset)

    def _pause(self, wanted: Wanted) -> float:
        """For how long the group has read too fast already."""
        if wanted.group is None:
            return 0.0
        return self._parts.paces.seconds_left(
            wanted.group, self._parts.engine.grouping.policy(wanted.group).messages_per_second
        )

    def _count(self, wanted: Wanted, fetched: Fetched) -> None:
        if wanted.group is not None:
            rate = self._parts.engine.grouping.policy(wanted.group).messages_per_second
            self._parts.paces.take(wanted.group, rate, len(fetched.bodies))

    async def _wait(self, key: QueueKey, wanted: Wanted, seconds: float) -> None:
        """Until the queue grows, or the group commits what a gate of it requires."""
        signs: list[Sign] = [key]
        if wanted.group is not None:
            signs.append((wanted.group, key.topic_id))
        with self._parts.waiters.watching(signs) as happened:
            await asyncio.wait((happened,), timeout=seconds)

    def _read(self, key: QueueKey, wanted: Wanted, readable: int) -> Fetched:
        engine = self._parts.engine
        queue = engine.queues.queue(key)
        most, most_bytes = min(wanted.max_messages, FETCH_MESSAGES, readable), min(wanted.max_bytes, FETCH_BYTES)
        if wanted.tags:
            asked = Filter(wanted.tags, most, most_bytes)
            scan = min(readable, MOST_SCANNED)
            fetched = read_tagged(engine.log, queue, key.topic_id, wanted.offset, asked, scan=scan)
        else:
            fetched = read_batch(
                engine.log, queue, key.topic_id, wanted.offset, max_messages=most, max_bytes=most_bytes
            )
        gone = engine.leasing.gone(key.topic_id)  # dead letters that were sent again, or purged
        return without(fetched, gone) if len(gone) else fetched
