"""The topics of a broker: by name and by id, in memory and on disk alike."""

import re
from collections.abc import Callable, Container, Iterable
from datetime import timedelta
from math import inf
from pathlib import Path
from threading import Lock

from broker.errors import BadName, BadRequest, TopicExists, UnknownTopic
from broker.log.disk import Disk
from broker.model import Topic, TopicId, TopicName, TopicPolicy
from broker.queues.topic_file import Stored, read_topics, write_topics
from protos.errors import DirectoryUnusable

DEFAULT_QUEUES = 4
MOST_QUEUES = 1_024
OWN_PREFIX = "%"  # of topics that only the broker makes and fills: dead letters, undecided transactions
_NAME = re.compile(r"[A-Za-z0-9_%.-]{1,127}")


def check_name(name: str, kind: str) -> None:
    """Raises BadName for what is no name of a topic or group."""
    if not _NAME.fullmatch(name):
        raise BadName(name=name, kind=kind)


def check_queues(queues: int) -> None:
    """Raises BadRequest for a number of queues that no topic can have."""
    if not 1 <= queues <= MOST_QUEUES:
        raise BadRequest(reason=f"a topic has 1 to {MOST_QUEUES} queues, not {queues}")


def check_policy(policy: TopicPolicy) -> None:
    """Raises BadRequest for what no topic can keep to."""
    if policy.messages_per_second is not None and not 0 < policy.messages_per_second < inf:
        raise BadRequest(reason=f"a topic's rate is above 0 messages a second, not {policy.messages_per_second}")
    if policy.retention is not None and policy.retention <= timedelta():
        raise BadRequest(reason=f"a topic's retention is longer than nothing, not {policy.retention}")


def is_own(name: TopicName) -> bool:
    """Whether only the broker itself makes and fills a topic of this name."""
    return name.startswith(OWN_PREFIX)


class Topics:
    """For any thread. `die` is called where the file may hold something else than memory, and must not return."""

    def __init__(self, path: Path, disk: Disk, die: Callable[[BaseException], None]) -> None:
        self._path = path
        self._disk = disk
        self._die = die
        self._changing = Lock()
        self._deleted: dict[TopicId, TopicName] = {}
        self._take(read_topics(path))

    def _take(self, stored: Stored) -> None:
        self._next_id = stored.next_id
        self._by_id = {topic.topic_id: topic for topic in stored.topics}
        self._by_name = {topic.name: topic for topic in stored.topics}

    def get(self, name: TopicName) -> Topic | None:
        return self._by_name.get(name)

    def by_id(self, topic_id: TopicId) -> Topic | None:
        """None: it was deleted."""
        return self._by_id.get(topic_id)

    def ids(self) -> Container[TopicId]:
        """Of all that there are."""
        return self._by_id

    def check(self, ids: Iterable[TopicId]) -> None:
        """Raises DirectoryUnusable if the file never gave out one of the ids: whoever has it was written later."""
        unknown = max(ids, default=0)
        if unknown >= self._next_id:
            reason = f"it does not know topic {unknown} of the log: it is missing, or older than the log"
            raise DirectoryUnusable(path=self._path, reason=reason)

    def name_of(self, topic_id: TopicId) -> TopicName:
        """Of a topic that there is, or was since the broker started."""
        topic = self._by_id.get(topic_id)
        return topic.name if topic else self._deleted[topic_id]

    def list(self) -> list[Topic]:
        """By name."""
        by_name = self._by_name
        return [by_name[name] for name in sorted(by_name)]

    def create(self, name: TopicName, queues: int, policy: TopicPolicy | None = None) -> Topic:
        """Returns when the topic is durable; the same one that is there is returned as it is.

        Raises BadName, BadRequest for a number of queues or a policy that cannot be, TopicExists for different ones.
        """
        check_name(name, "topic")
        if is_own(name):
            raise BadName(name=name, kind="topic")
        check_queues(queues)
        check_policy(policy or TopicPolicy())
        with self._changing:
            known = self._by_name.get(name)
            if known is not None and (known.write_queues != queues or (policy or known.policy) != known.policy):
                raise TopicExists(topic=name, queues=known.write_queues)
            return known or self._add(name, queues, policy or TopicPolicy())

    def get_or_create(self, name: TopicName) -> Topic:
        """The topic; made with the default number of queues if there is none. Raises BadName, UnknownTopic."""
        check_name(name, "topic")
        if is_own(name) and name not in self._by_name:
            raise UnknownTopic(topic=name)
        with self._changing:
            return self._by_name.get(name) or self._add(name, DEFAULT_QUEUES, TopicPolicy())

    def get_or_create_own(self, name: TopicName) -> Topic:
        """One of the broker's own topics, of one queue; its name begins with OWN_PREFIX."""
        with self._changing:
            return self._by_name.get(name) or self._add(name, 1, TopicPolicy())

    def replace(self, topic: Topic) -> None:
        """Puts the topic in the place of the one with its id; durable when this returns."""
        with self._changing:
            self._store({**self._by_id, topic.topic_id: topic}.values())

    def delete(self, topic: Topic) -> None:
        """Its id means nothing from now on; durable when this returns."""
        with self._changing:
            self._deleted[topic.topic_id] = topic.name
            self._store(known for known in self._by_id.values() if known.topic_id != topic.topic_id)

    def _add(self, name: TopicName, queues: int, policy: TopicPolicy) -> Topic:
        topic = Topic(name, self._next_id, queues, queues, policy)
        self._store([*self._by_id.values(), topic], TopicId(self._next_id + 1))
        return topic

    def _store(self, topics: Iterable[Topic], next_id: TopicId | None = None) -> None:
        stored = Stored([*topics], next_id or self._next_id)
        try:
            write_topics(self._path, stored, self._disk)
        except OSError as error:
            self._die(error)
            raise
        self._take(stored)
