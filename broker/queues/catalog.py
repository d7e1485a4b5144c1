"""Topics together with what their queues hold."""

from collections.abc import Iterable

from broker.model import QueueKey, QueueRange, Topic, TopicName, TopicQueue
from broker.queues.builder import QueueBuilder
from broker.queues.topics import Topics


class Catalog:
    """Looks names up; an unknown topic has no queues."""

    def __init__(self, topics: Topics, queues: QueueBuilder) -> None:
        self.topics = topics
        self._queues = queues

    def ranges(self, names: Iterable[TopicName]) -> dict[TopicQueue, QueueRange]:
        """Every queue of these topics, and what it holds."""
        known = (topic for name in names if (topic := self.topics.get(name)) is not None)
        return {TopicQueue(topic.name, at): held for topic in known for at, held in enumerate(self.of_topic(topic))}

    def of_topic(self, topic: Topic) -> list[QueueRange]:
        """What each queue of the topic holds, by number."""
        queues = (self._queues.queue(QueueKey(topic.topic_id, number)) for number in range(topic.read_queues))
        return [QueueRange(queue.lowest, queue.end) for queue in queues]
