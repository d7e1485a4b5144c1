"""What is kept, decided from facts: which offsets are retired, which segments go, what the oldest one is kept for."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.groups.retention import Need
from broker.model import QueueKey, QueueRange, TopicQueue


class HolderKind(enum.StrEnum):
    """Why something needs a part of the log."""

    RETENTION = enum.auto()  # a queue holds messages that are neither too old nor too many
    GROUP = enum.auto()  # a group has not read them
    DELAYED = enum.auto()
    TRANSACTION = enum.auto()
    ACTIVE = enum.auto()  # it still grows


@dataclass(frozen=True, slots=True)
class Holder:
    """What needs it: a group, a topic's delayed messages, or a transaction's producer group by name; a queue."""

    kind: HolderKind
    name: str = ""
    at: TopicQueue | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Everything from this position of the log on is needed."""

    holder: Holder
    position: int


@dataclass(frozen=True, slots=True)
class Extent:
    """A segment: its first position, and the one behind it."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue, what it holds, and which group needs it from where on.

    Everything before `outlived` is older than it has to be kept, or more than is kept.
    """

    key: QueueKey
    at: TopicQueue
    held: QueueRange
    outlived: int
    need: Need | None


def kept_from(queue: QueueFacts) -> int:
    """The lowest offset that the queue has from now on; never lower than it is."""
    outlived = min(queue.outlived, queue.held.end_offset)
    wanted = outlived if queue.need is None else min(outlived, queue.need.offset)
    return max(queue.held.lowest_offset, wanted)


def holder_of(queue: QueueFacts) -> Holder:
    """What keeps the queue from retiring more."""
    if queue.need is not None and queue.need.offset < queue.outlived:
        return Holder(HolderKind.GROUP, queue.need.group, queue.at)
    return Holder(HolderKind.RETENTION, at=queue.at)


def first_within(segments: Sequence[Extent], limit: int | None) -> int:
    """Where the log has to begin so that it has no more bytes than the limit; the active segment always stays."""
    if limit is None:
        return segments[0].start
    fitting = (segment.start for segment in segments if segments[-1].end - segment.start <= limit)
    return next(fitting, segments[-1].start)


def free_before(segments: Sequence[Extent], holds: Iterable[Hold]) -> int:
    """Every segment that ends at or before this position can go."""
    return min((segments[-1].start, *(hold.position for hold in holds)))


def holders(segments: Sequence[Extent], holds: Iterable[Hold]) -> list[Holder]:
    """What the oldest segment is kept for."""
    active = [Holder(HolderKind.ACTIVE)] if len(segments) == 1 else []
    return active + [hold.holder for hold in holds if hold.position < segments[0].end]
