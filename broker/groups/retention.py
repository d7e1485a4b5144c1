"""What groups still need of a queue: a group that nobody has read with for long holds nothing any more."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from broker.groups.membership import Group
from broker.model import GroupName, TopicQueue

HOLDS_FOR = timedelta(days=7)


class Need(NamedTuple):
    """A group has read a queue up to, not including, `offset`."""

    offset: int
    group: GroupName


def holds(group: Group, now_ms: int, holds_for: timedelta = HOLDS_FOR) -> bool:
    """Whether what the group has not read must be kept; `now_ms` is since the epoch."""
    return bool(group.members) or now_ms - group.last_member_at_ms < holds_for / timedelta(milliseconds=1)


def needed(groups: Iterable[Group], at: TopicQueue, now_ms: int, holds_for: timedelta = HOLDS_FOR) -> Need | None:
    """The lowest offset of the queue that a group has not read, and which group; None: nobody needs anything."""
    return min(
        (
            Need(group.queues[at].offset, group.name)
            for group in groups
            if at in group.queues and holds(group, now_ms, holds_for)
        ),
        default=None,
    )
