"""Who has which message, in memory: every group's leases, and which dead letters are gone; changed by frames alone."""

import json
from collections.abc import Mapping
from typing import Literal, TypedDict, assert_never

from broker.delivery.dead_letters import Gone
from broker.delivery.leases.changes import StoredChange, from_stored, to_stored
from broker.delivery.leases.state import Change, Leases
from broker.model import GroupName, QueueKey, TopicId


class Changed(TypedDict):
    """Messages of one topic went on; `resets`: what was known of the queues before is void."""

    do: Literal["change"]
    group: str
    topic: int
    queues: list[tuple[int, StoredChange]]
    resets: bool


class Removed(TypedDict):
    """Dead letters are gone: all before an offset, and these."""

    do: Literal["remove"]
    topic: int
    before: int
    offsets: list[int]


class Dropped(TypedDict):
    """A group is forgotten."""

    do: Literal["drop"]
    group: str


class DroppedTopic(TypedDict):
    """A topic is forgotten in all groups."""

    do: Literal["drop topic"]
    topic: int


Deed = Changed | Removed | Dropped | DroppedTopic


class TableSnapshot(TypedDict):
    """All of the table."""

    leases: list[tuple[str, int, int, StoredChange]]
    gone: list[tuple[int, int, list[int]]]


def encode(deed: Deed) -> bytes:
    return json.dumps(deed, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> Deed:
    """The inverse of `encode`."""
    deed: Deed = json.loads(data)
    return deed


class LeaseTable:
    """Belongs to the writer's thread, but for `gone`, whose values never change."""

    def __init__(self) -> None:
        self.gone: Mapping[TopicId, Gone] = {}
        self._groups: dict[GroupName, dict[QueueKey, Leases]] = {}

    def groups(self) -> Mapping[GroupName, Mapping[QueueKey, Leases]]:
        """Every group that ever read by lease."""
        return self._groups

    def of_group(self, group: GroupName) -> Mapping[QueueKey, Leases]:
        """The queues that the group has read."""
        return self._groups.get(group, {})

    def change(self, group: GroupName, key: QueueKey, change: Change) -> None:
        """Applies it; a queue that the group never read begins with it."""
        self._groups.setdefault(group, {}).setdefault(key, Leases(change.next)).apply(change)

    def apply(self, deed: Deed) -> None:
        """Does what was decided; also again at recovery."""
        match deed["do"]:
            case "change":
                self._change(deed)
            case "remove":
                self._remove(TopicId(deed["topic"]), deed["before"], deed["offsets"])
            case "drop":
                self._groups.pop(GroupName(deed["group"]), None)
            case "drop topic":
                self._drop_topic(TopicId(deed["topic"]))
            case _:
                assert_never(deed)

    def _change(self, changed: Changed) -> None:
        group = GroupName(changed["group"])
        for queue, stored in changed["queues"]:
            key = QueueKey(TopicId(changed["topic"]), queue)
            if changed["resets"]:
                self._groups.get(group, {}).pop(key, None)
            self.change(group, key, from_stored(stored))

    def _remove(self, topic_id: TopicId, before: int, offsets: list[int]) -> None:
        gone = self.gone.get(topic_id, Gone())
        self.gone = {**self.gone, topic_id: gone.before(before).with_(offsets)}

    def _drop_topic(self, topic_id: TopicId) -> None:
        for queues in self._groups.values():
            for key in [key for key in queues if key.topic_id == topic_id]:
                del queues[key]
        self.gone = {known: gone for known, gone in self.gone.items() if known != topic_id}

    def snapshot(self) -> TableSnapshot:
        """For the checkpoint."""
        return {
            "leases": [
                (group, *key, to_stored(leases.snapshot()))
                for group, queues in self._groups.items()
                for key, leases in queues.items()
            ],
            "gone": [(topic_id, gone.floor, sorted(gone.above)) for topic_id, gone in self.gone.items()],
        }

    def restore(self, snapshot: TableSnapshot) -> None:
        """As it was when the snapshot was taken."""
        for group, topic_id, queue, stored in snapshot["leases"]:
            self.change(GroupName(group), QueueKey(TopicId(topic_id), queue), from_stored(stored))
        self.gone = {TopicId(topic_id): Gone(floor, frozenset(above)) for topic_id, floor, above in snapshot["gone"]}
