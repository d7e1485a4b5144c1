"""Topics, as users make, see and change them."""

from broker.engine.commands import AlterTopic, DeleteTopic
from broker.errors import TopicPermission, UnknownTopic
from broker.face.parts import Parts
from broker.model import QueueRange, Topic, TopicName, TopicPolicy
from broker.queues.altered.alteration import Alteration
from broker.queues.topics import DEFAULT_QUEUES, is_own


class Topics:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create(self, name: TopicName, queues: int, policy: TopicPolicy | None) -> Topic:
        """Raises BadName, BadRequest, TopicExists; 0 queues is the default number, no policy the default one."""
        create = self._parts.catalog.topics.create
        return await self._parts.on_disk(create, name, queues or DEFAULT_QUEUES, policy)

    async def alter(self, name: TopicName, change: Alteration) -> Topic:
        """The topic as it is then. Raises BadRequest, QueueNotDrained, TopicPermission, UnknownTopic."""
        self._check_not_own(name)
        return await self._ask(AlterTopic(name, change))

    async def delete(self, name: TopicName) -> None:
        """With its messages, and what groups know of it. Raises UnknownTopic."""
        topic = await self._ask(DeleteTopic(name))
        self._parts.paces.forget(topic.topic_id)

    async def _ask(self, command: AlterTopic | DeleteTopic) -> Topic:
        topic = await self._parts.ask(command)
        assert isinstance(topic, Topic)
        self._parts.waiters.wake_all()  # who waits looks again at the topic
        return topic

    def _check_not_own(self, name: TopicName) -> None:
        if is_own(name):
            raise TopicPermission(topic=name, ability="alterable: it is the broker's own")

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
