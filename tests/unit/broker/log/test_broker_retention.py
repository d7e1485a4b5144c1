"""What retention decides, from facts."""

import pytest

from broker.delivery.retention.rules import (
    Extent,
    Hold,
    Holder,
    HolderKind,
    QueueFacts,
    first_within,
    free_before,
    holder_of,
    holders,
    kept_from,
)
from broker.groups.retention import Need
from broker.model import GroupName, QueueKey, QueueRange, TopicId, TopicName, TopicQueue

AT = TopicQueue(TopicName("orders"), 0)
SEGMENTS = [Extent(100, 200), Extent(200, 300), Extent(300, 310)]


def queue(lowest: int, end: int, outlived: int, read: int | None = None) -> QueueFacts:
    need = None if read is None else Need(read, GroupName("g"))
    return QueueFacts(QueueKey(TopicId(1), 0), AT, QueueRange(lowest, end), outlived, need)


@pytest.mark.parametrize(
    ("facts", "lowest"),
    [
        (queue(2, 9, outlived=0), 2),
        (queue(2, 9, outlived=5), 5),
        (queue(2, 9, outlived=20), 9),
        (queue(2, 9, outlived=5, read=3), 3),
        (queue(2, 9, outlived=5, read=7), 5),
        (queue(2, 9, outlived=5, read=0), 2),
    ],
)
def test_a_queue_retires_what_is_outlived_and_read(facts: QueueFacts, lowest: int) -> None:
    assert kept_from(facts) == lowest


def test_a_group_that_lags_behind_retention_is_what_holds_a_queue() -> None:
    assert holder_of(queue(2, 9, outlived=5, read=3)) == Holder(HolderKind.GROUP, "g", AT)
    assert holder_of(queue(2, 9, outlived=5, read=7)) == Holder(HolderKind.RETENTION, at=AT)
    assert holder_of(queue(2, 9, outlived=5)) == Holder(HolderKind.RETENTION, at=AT)


@pytest.mark.parametrize(("limit", "start"), [(None, 100), (210, 100), (209, 200), (110, 200), (109, 300), (1, 300)])
def test_a_log_over_its_limit_begins_at_a_later_segment_and_keeps_the_active_one(limit: int, start: int) -> None:
    assert first_within(SEGMENTS, limit) == start


@pytest.mark.parametrize(("needed", "free"), [([], 300), ([305], 300), ([250, 305], 250), ([100], 100)])
def test_what_nobody_needs_can_go_but_for_the_active_segment(needed: list[int], free: int) -> None:
    holds = [Hold(Holder(HolderKind.DELAYED), position) for position in needed]
    assert free_before(SEGMENTS, holds) == free


def test_holders_are_those_that_need_the_oldest_segment() -> None:
    early, late = Hold(Holder(HolderKind.GROUP, "g", AT), 199), Hold(Holder(HolderKind.DELAYED), 200)
    assert holders(SEGMENTS, [early, late]) == [early.holder]
    assert holders(SEGMENTS[2:], [late]) == [Holder(HolderKind.ACTIVE), late.holder]
    assert holders(SEGMENTS[1:], []) == []
