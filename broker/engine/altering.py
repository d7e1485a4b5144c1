"""The engine's room of topics: alters and deletes them between two publishes, so that nobody's order is broken.

Topics have a file of their own and no frames. Nothing of it refers to what the log may still lose but the offsets of
gates, and those are clamped when the log is opened.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from broker.engine.commands import AlteringCommand, AlterTopic, DeleteTopic
from broker.engine.delaying import Delaying
from broker.engine.grouping import Grouping
from broker.engine.journal import Journal
from broker.errors import UnknownTopic
from broker.model import QueueKey, QueueRange, Topic, TopicName
from broker.queues.altered.alteration import Place, altered
from broker.queues.altered.gates import Held, clamped


class Altering:
    """For the writer's thread."""

    def __init__(self, journal: Journal, grouping: Grouping, delaying: Delaying) -> None:
        self._journal = journal
        self._topics = journal.topics
        self._grouping = grouping
        self._delaying = delaying

    def do(self, command: AlteringCommand, now_ms: int) -> Topic:
        """The topic as it is then, or was. Raises BadRequest, QueueNotDrained, UnknownTopic."""
        match command:
            case AlterTopic():
                return self._alter(command)
            case DeleteTopic(name):
                return self._delete(name, now_ms)
            case _:
                assert_never(command)

    def settle(self) -> None:
        """After the log was read: no gate stands beyond what is left, queues that nobody can read have gone."""
        for key in self._journal.queues.held():
            topic = self._topics.by_id(key.topic_id)
            if topic is not None and key.queue >= topic.read_queues:
                self._drop(key)
        for topic in self._topics.list():
            gates = tuple(clamped(topic.gates, self._held(topic)))
            if gates != topic.gates:
                self._topics.replace(replace(topic, gates=gates))

    def _alter(self, command: AlterTopic) -> Topic:
        before = self._known(command.name)
        topic = altered(before, command.change, self._held(before), self._places(before))
        self._topics.replace(topic)
        for queue in range(topic.read_queues, before.read_queues):
            self._drop(QueueKey(topic.topic_id, queue))
        return topic

    def _drop(self, key: QueueKey) -> None:
        gone = self._journal.queues.queue(key)
        gone.drop_before(gone.end)

    def _delete(self, name: TopicName, now_ms: int) -> Topic:
        """What others know of the topic goes first: a crash in between leaves a topic that nobody has read."""
        topic = self._known(name)
        self._grouping.forget(topic, now_ms)
        self._journal.log.flush()
        self._journal.log.sync()  # under every durability: so is the file of the topics
        self._topics.delete(topic)
        self._journal.queues.forget(topic.topic_id)
        self._delaying.forget(topic.topic_id)
        return topic

    def _places(self, topic: Topic) -> Iterator[Place]:
        """Up to where each group that reads the topic has read its queues."""
        for group in self._grouping.groups():
            for at, owned in group.queues.items():
                if at.topic == topic.name:
                    yield Place(group.name, at.queue, owned.offset)

    def _known(self, name: TopicName) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            raise UnknownTopic(topic=name)
        return topic

    def _held(self, topic: Topic) -> Held:
        """Of each queue, what was taken for it and is not visible yet counted."""

        def held(queue: int) -> QueueRange:
            key = QueueKey(topic.topic_id, queue)
            return QueueRange(self._journal.queues.queue(key).lowest, self._journal.queues.next_offset(key))

        return held
