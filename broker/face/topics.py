"""Topics, as users make, see and change them."""

from broker.errors import UnknownTopic
from broker.face.parts import Parts
from broker.model import QueueRange, Topic, TopicName, TopicPolicy
from broker.queues.topics import DEFAULT_QUEUES


class Topics:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create(self, name: TopicName, queues: int, policy: TopicPolicy | None) -> Topic:
        """Raises BadName, BadRequest, TopicExists; 0 queues is the default number, no policy the default one."""
        create = self._parts.catalog.topics.create
        return await self._parts.on_disk(create, name, queues or DEFAULT_QUEUES, policy)

    def get(self, name: TopicName) -> tuple[Topic, list[QueueRange]]:
        """Raises UnknownTopic."""
        topic = self._parts.catalog.topics.get(name)
        if topic is None:
            raise UnknownTopic(topic=name)
        return topic, self._parts.catalog.of_topic(topic)

    def list(self) -> list[tuple[Topic, list[QueueRange]]]:
        """By name."""
        catalog = self._parts.catalog
        return [(topic, catalog.of_topic(topic)) for topic in catalog.topics.list()]
