"""The topics of a broker on disk: one file, replaced whole."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

from broker.log.disk import Disk, read_json
from broker.model import Gate, Topic, TopicId, TopicName, TopicPolicy

_FIRST_ID = TopicId(1)


@dataclass(frozen=True, slots=True)
class Stored:
    """All topics, and the id that the next one gets: higher than any that ever was."""

    topics: Sequence[Topic] = ()
    next_id: TopicId = _FIRST_ID


class _StoredPolicy(TypedDict):
    is_readable: bool
    is_writable: bool
    retention_ms: int | None
    retention_bytes: int | None
    messages_per_second: float | None


class _StoredTopic(TypedDict):
    name: str
    topic_id: int
    write_queues: int
    read_queues: int
    policy: _StoredPolicy
    gates: list[list[int]]


def read_topics(path: Path) -> Stored:
    """What was written last; nothing if there is no file. Raises DirectoryUnusable."""
    if not path.exists():
        return Stored()
    document = read_json(path)
    return Stored([*map(_restore, document["topics"])], TopicId(document["next_id"]))


def write_topics(path: Path, stored: Stored, disk: Disk) -> None:
    """Durable when this returns. Raises OSError: then nobody knows what the file holds."""
    document = {"next_id": stored.next_id, "topics": [*map(_store, stored.topics)]}
    disk.replace(path, json.dumps(document).encode())


def _store(topic: Topic) -> _StoredTopic:
    policy = topic.policy
    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "write_queues": topic.write_queues,
        "read_queues": topic.read_queues,
        "policy": {
            "is_readable": policy.is_readable,
            "is_writable": policy.is_writable,
            "retention_ms": None if policy.retention is None else policy.retention // timedelta(milliseconds=1),
            "retention_bytes": policy.retention_bytes,
            "messages_per_second": policy.messages_per_second,
        },
        "gates": [[*astuple(gate)] for gate in topic.gates],
    }


def _restore(stored: _StoredTopic) -> Topic:
    policy = stored["policy"]
    retention_ms = policy["retention_ms"]
    return Topic(
        TopicName(stored["name"]),
        TopicId(stored["topic_id"]),
        stored["write_queues"],
        stored["read_queues"],
        TopicPolicy(
            policy["is_readable"],
            policy["is_writable"],
            None if retention_ms is None else timedelta(milliseconds=retention_ms),
            policy["retention_bytes"],
            policy["messages_per_second"],
        ),
        tuple(Gate(*gate) for gate in stored["gates"]),
    )
