"""Reading by offset, with a long poll."""

import asyncio
from dataclasses import dataclass

from broker.delivery.pacing import Pacing
from broker.delivery.reader import read_batch
from broker.errors import OffsetOutOfRange, UnknownQueue
from broker.face.parts import Parts
from broker.model import Fetched, QueueKey, Topic, TopicName

FETCH_BYTES = 8 << 20  # of records in one answer
FETCH_MESSAGES = 32_768


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages a fetch asks for, and how long it waits for the first one."""

    topic: TopicName
    queue: int
    offset: int
    max_messages: int
    max_bytes: int
    wait_seconds: float


class Reading:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pacing = Pacing(lambda: parts.writer.is_busy)

    async def fetch(self, wanted: Wanted) -> Fetched:
        """Raises OffsetOutOfRange, UnknownQueue, UnknownTopic; nothing in time is an empty answer."""
        parts, loop = self._parts, asyncio.get_running_loop()
        topic = await parts.topic(wanted.topic)
        key = QueueKey(topic.topic_id, wanted.queue)
        until = loop.time() + wanted.wait_seconds
        while not self._has_messages(topic, wanted):
            if loop.time() >= until or parts.stopping.is_set():
                queue = parts.engine.queues.queue(key)
                return Fetched(key.topic_id, wanted.offset, queue.lowest, wanted.offset)
            await parts.waiters.wait(key, until - loop.time())
        async with self._pacing.turn(parts.engine.queues.queue(key).end - wanted.offset):
            return await parts.on_disk(self._read, key, wanted)

    def _has_messages(self, topic: Topic, wanted: Wanted) -> bool:
        if wanted.queue >= topic.read_queues:
            raise UnknownQueue(topic=topic.name, queue=wanted.queue, queues=topic.read_queues)
        queue = self._parts.engine.queues.queue(QueueKey(topic.topic_id, wanted.queue))
        if not queue.lowest <= wanted.offset <= queue.end:
            raise OffsetOutOfRange(
                offset=wanted.offset, topic=topic.name, queue=wanted.queue, lowest=queue.lowest, end=queue.end
            )
        return wanted.offset < queue.end

    def _read(self, key: QueueKey, wanted: Wanted) -> Fetched:
        engine = self._parts.engine
        return read_batch(
            engine.log,
            engine.queues.queue(key),
            key.topic_id,
            wanted.offset,
            max_messages=min(wanted.max_messages, FETCH_MESSAGES),
            max_bytes=min(wanted.max_bytes, FETCH_BYTES),
        )
