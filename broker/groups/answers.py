"""What the groups are asked by the rooms around them, and what they answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.groups.membership import Find, Group, Ranges
from broker.model import (
    BeatAnswer,
    Forgotten,
    GroupName,
    GroupPolicy,
    MemberId,
    OffsetCommit,
    Topic,
    TopicName,
    TopicQueue,
)

RangesOf = Callable[[frozenset[TopicName]], Ranges]
"""Every queue of these topics, and what it holds; a topic that there is not has none."""

Floors = Mapping[TopicQueue, int]
"""Up to where (not including) everything is done, in a group that leases."""


@dataclass(frozen=True, slots=True)
class Queues:
    """What the groups need of topics and queues."""

    ranges_of: RangesOf
    find: Find


@dataclass(frozen=True, slots=True)
class LeaseCounts:
    """Messages that members of a group have just now, and those that wait for their next attempt."""

    leased: int = 0
    waiting: int = 0
    until_ms: int = 0
    """When the last of the leases runs out, milliseconds since the epoch; 0: there are none."""


class Leases(Protocol):
    """What the groups need of the room of leases; what changes them appends frames of that room."""

    def counts(self, group: GroupName, now_ms: int) -> LeaseCounts:
        """All zero for a group that has none."""

    def floors(self, group: GroupName) -> Floors:
        """Of every queue that the group ever leased from; for any thread."""

    def restart(self, group: GroupName, floors: Floors, now_ms: int) -> None:
        """Makes void what is leased or waits in these queues, and goes on at the floors."""

    def give_back(self, group: GroupName, member_id: MemberId, now_ms: int) -> None:
        """Takes everything back that the member has: it is for anybody at once, and the attempts do not count."""

    def forget(self, group: GroupName, now_ms: int) -> None:
        """Drops everything of the group."""

    def forget_topic(self, topic: Topic, now_ms: int) -> None:
        """Drops everything of the topic, in all groups."""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group without its silent members; its offsets are those of the way in which it reads."""

    group: Group
    ranges: Ranges
    leases: LeaseCounts
    consumed_per_second: float


@dataclass(frozen=True, slots=True)
class OffsetsNow:
    """The committed offsets that a commit led to."""

    commits: Sequence[OffsetCommit]


@dataclass(frozen=True, slots=True)
class ResetDone:
    """The offsets of a topic's queues before and after, by number."""

    before: tuple[int, ...]
    after: tuple[int, ...]


GroupingAnswer = BeatAnswer | Group | OffsetsNow | GroupStatus | GroupPolicy | ResetDone | Forgotten | None
