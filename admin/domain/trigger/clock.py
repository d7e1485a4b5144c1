"""A zone's clock in seconds: how far it is from UTC around a day, and when exactly that changes.

Since 1970 no zone has changed its clock twice within six days, so that the three days of which one is the middle see
one change at most.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from admin.domain.trigger.walls import DAY

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Change:
    """From the second `at` on the clock shows UTC and `new`, before that UTC and `old`."""

    at: int
    old: int
    new: int


@lru_cache(maxsize=16_384)
def offset_around(zone: ZoneInfo, day: int) -> int | None:
    """How far the clock is from UTC on this day of UTC, the one before and the one behind; None where it changes."""
    offset = datetime.fromtimestamp((day - 1) * DAY, zone).utcoffset()
    assert offset is not None
    return offset // _SECOND if offset == datetime.fromtimestamp((day + 2) * DAY, zone).utcoffset() else None


@lru_cache(maxsize=4096)
def change_around(zone: ZoneInfo, day: int) -> Change:
    """The change that `offset_around` tells of."""
    before, behind = (day - 1) * DAY, (day + 2) * DAY
    old, new = _offset_at(zone, before), _offset_at(zone, behind)
    while behind - before > 1:
        middle = (before + behind) // 2
        if _offset_at(zone, middle) == old:
            before = middle
        else:
            behind = middle
    return Change(behind, old, new)


def _offset_at(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None
    return offset // _SECOND
