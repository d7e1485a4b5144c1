"""The topics of a broker: name, id, number of queues; a file that is replaced whole."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from broker.errors import BadName, BadRequest, TopicExists
from broker.log.disk import Disk, read_json
from broker.model import Topic, TopicId, TopicName

DEFAULT_QUEUES = 4
MOST_QUEUES = 1_024
_NAME = re.compile(r"[A-Za-z0-9_%.-]{1,127}")


def check_name(name: str, kind: str) -> None:
    """Raises BadName for what is no name of a topic or group."""
    if not _NAME.fullmatch(name):
        raise BadName(name=name, kind=kind)


class Topics:
    """For any thread. `die` is called where the file may hold something else than memory, and must not return."""

    def __init__(self, path: Path, disk: Disk, die: Callable[[BaseException], None]) -> None:
        self._path = path
        self._disk = disk
        self._die = die
        self._creating = Lock()
        self._topics: Mapping[TopicName, Topic] = {}
        if path.exists():
            stored = (Topic(**entry) for entry in read_json(path))
            self._topics = {topic.name: topic for topic in stored}

    def get(self, name: TopicName) -> Topic | None:
        return self._topics.get(name)

    def list(self) -> list[Topic]:
        """By name."""
        return [self._topics[name] for name in sorted(self._topics)]

    def create(self, name: TopicName, queues: int) -> Topic:
        """Returns when the topic is durable; one that exists with as many queues is returned as it is.

        Raises BadName, BadRequest for a number of queues out of bounds, TopicExists for another number of queues.
        """
        check_name(name, "topic")
        if not 1 <= queues <= MOST_QUEUES:
            raise BadRequest(reason=f"a topic has 1 to {MOST_QUEUES} queues, not {queues}")
        with self._creating:
            known = self._topics.get(name)
            if known is not None and known.queues != queues:
                raise TopicExists(topic=name, queues=known.queues)
            return known or self._add(name, queues)

    def get_or_create(self, name: TopicName) -> Topic:
        """The topic; made with the default number of queues if there is none. Raises BadName."""
        check_name(name, "topic")
        with self._creating:
            return self._topics.get(name) or self._add(name, DEFAULT_QUEUES)

    def _add(self, name: TopicName, queues: int) -> Topic:
        topic_id = TopicId(max((topic.topic_id for topic in self._topics.values()), default=0) + 1)
        topic = Topic(name, topic_id, queues)
        self._store({**self._topics, name: topic})
        return topic

    def _store(self, topics: Mapping[TopicName, Topic]) -> None:
        entries = [{"name": t.name, "topic_id": t.topic_id, "queues": t.queues} for t in topics.values()]
        try:
            self._disk.replace(self._path, json.dumps(entries).encode())
        except OSError as error:
            self._die(error)
            raise
        self._topics = topics
