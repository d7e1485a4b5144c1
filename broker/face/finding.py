"""Finding messages: by time and by key."""

from broker.delivery.finding import Finder, Found
from broker.errors import BadRequest, TopicPermission, UnknownTopic
from broker.face.parts import Parts
from broker.model import QueueKey, Topic, TopicName
from broker.queues.consume_queue import ConsumeQueue
from broker.queues.finding import offset_at


class Finding:
    """Belongs to one event loop; never creates a topic."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._finder = Finder(parts.engine.log, parts.engine.log_index)

    async def offsets(self, name: TopicName, at_ms: int) -> list[int]:
        """By queue: the first one stored then (milliseconds since the epoch) or later. Raises UnknownTopic."""
        return await self._parts.on_disk(self._offsets, self._queues(self._topic(name)), at_ms)

    def _offsets(self, queues: list[ConsumeQueue], at_ms: int) -> list[int]:
        index = self._parts.engine.log_index
        return [offset_at(index, queue, at_ms) for queue in queues]

    async def messages(self, name: TopicName, key: str, limit: int) -> tuple[Topic, list[Found]]:
        """The latest first. Raises BadRequest, RecordDamaged, TopicPermission, UnknownTopic."""
        if not key:
            raise BadRequest(reason="a message without a key is not found by it")
        topic = self._topic(name)
        if not topic.policy.is_readable:
            raise TopicPermission(topic=name, ability="readable")
        return topic, await self._parts.on_disk(self._find, topic, key.encode(), limit)

    def _find(self, topic: Topic, key: bytes, limit: int) -> list[Found]:
        gone = self._parts.engine.leasing.gone(topic.topic_id)  # dead letters that were sent again, or purged
        return self._finder.find(topic.topic_id, self._queues(topic), key, limit, gone)

    def _topic(self, name: TopicName) -> Topic:
        topic = self._parts.catalog.topics.get(name)
        if topic is None:
            raise UnknownTopic(topic=name)
        return topic

    def _queues(self, topic: Topic) -> list[ConsumeQueue]:
        queues = self._parts.engine.queues
        return [queues.queue(QueueKey(topic.topic_id, number)) for number in range(topic.read_queues)]
