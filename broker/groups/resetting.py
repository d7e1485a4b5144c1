"""Resets: the one way in which a group's offsets go back."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.errors import BadRequest, OffsetOutOfRange
from broker.groups.membership import Find, Group, Ranges, offset_of
from broker.model import GroupName, Start, TopicName


@dataclass(frozen=True, slots=True)
class Reset:
    """Where a group shall go on reading a topic: at a start of each queue, or at an offset for each queue.

    `expected` are the offsets of a preview, by queue; None: wherever the group stands. `force`: although it has
    members, who lose their queues and leases.
    """

    group: GroupName
    topic: TopicName
    to: Start | tuple[int, ...]
    preview: bool = False
    expected: tuple[int, ...] | None = None
    force: bool = False


def standing(group: Group, ranges: Ranges) -> tuple[int, ...]:
    """Where the group stands in these queues, in their order; one that it never read counts from its beginning."""
    return tuple(
        group.queues[at].offset if at in group.queues else held.lowest_offset for at, held in sorted(ranges.items())
    )


def targets(to: Start | tuple[int, ...], ranges: Ranges, find: Find) -> tuple[int, ...]:
    """The offsets that a reset means, in the order of the queues. Raises BadRequest, OffsetOutOfRange."""
    if not isinstance(to, tuple):
        return tuple(offset_of(to, at, held, find) for at, held in sorted(ranges.items()))
    _check(to, ranges)
    return to


def _check(offsets: Sequence[int], ranges: Ranges) -> None:
    if len(offsets) != len(ranges):
        raise BadRequest(reason=f"{len(offsets)} offsets for {len(ranges)} queues")
    for offset, (at, held) in zip(offsets, sorted(ranges.items()), strict=True):
        if not held.lowest_offset <= offset <= held.end_offset:
            raise OffsetOutOfRange(
                offset=offset, topic=at.topic, queue=at.queue, lowest=held.lowest_offset, end=held.end_offset
            )
