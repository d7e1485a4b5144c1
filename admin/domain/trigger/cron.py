"""Cron behind APScheduler's interface, exact across clock changes."""

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from admin.domain.errors import InvalidTrigger
from admin.domain.trigger.clock import Change, change_around, offset_around
from admin.domain.trigger.expression import LAST_YEAR, parse_cron
from admin.domain.trigger.kinds import Cron, Dialect, Repeated, Skipped
from admin.domain.trigger.walls import DAY, Walls

SEARCH_YEARS = 100  # as Quartz; 29 February on a given weekday takes at most 40


def last_year_of(after: datetime) -> int:
    """Up to when a search from `after` on looks."""
    return min(after.year, LAST_YEAR) + SEARCH_YEARS


@lru_cache(maxsize=4096)
def compiled(cron: Cron) -> "QuartzCronTrigger":
    """Raises InvalidTrigger, also for an unknown zone (its position is that behind the expression)."""
    return QuartzCronTrigger(
        cron.expression, cron.time_zone, cron.dialect, skipped=cron.skipped, repeated=cron.repeated
    )


class QuartzCronTrigger(BaseTrigger):  # type: ignore[misc]
    """Quartz's expressions, and unix ones where that dialect is named.

    Between two clock changes wall time and UTC differ by a constant, so that the next fire is one search among wall
    times; only around a change both sides are searched, and the policies say where the old one ends.
    """

    __slots__ = ("_repeated", "_skipped", "_walls", "_zone")

    def __init__(
        self,
        expression: str,
        time_zone: str = "UTC",
        dialect: Dialect = Dialect.QUARTZ,
        *,
        skipped: Skipped = Skipped.SKIP,
        repeated: Repeated = Repeated.ONCE,
    ) -> None:
        self._walls = Walls(parse_cron(expression, dialect))
        self._zone = _zone(expression, time_zone)
        self._skipped = skipped
        self._repeated = repeated

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Strictly behind both, in the zone; None where the expression ends."""
        after = max(previous_fire_time, now) if previous_fire_time else now
        found = self.fire_after(after, last_year_of(after))
        return found.astimezone(self._zone) if found else None

    def fire_after(self, after: datetime, last_year: int) -> datetime | None:
        """The same in UTC, up to the end of `last_year` on the zone's clock."""
        found = self._second_after(int(after.timestamp()), last_year)
        return None if found is None else datetime.fromtimestamp(found, UTC)

    def in_zone(self, fire: datetime) -> datetime:
        return fire.astimezone(self._zone)

    def _second_after(self, second: int, last_year: int) -> int | None:
        while True:
            day = (second + 1) // DAY
            offset, behind_day = offset_around(self._zone, day), (day + 1) * DAY
            if offset is None:
                if (found := self._amid_change(day, second, last_year)) is not None:
                    return found
                second = behind_day - 1
                continue
            wall = self._walls.after(second + offset, last_year)
            if wall is None:
                return None
            found = wall - offset
            if found < behind_day:
                return found
            later = offset_around(self._zone, found // DAY)
            if later is not None:
                return wall - later
            second = max(behind_day - 1, found - 2 * DAY)

    def _amid_change(self, day: int, second: int, last_year: int) -> int | None:
        """The first fire of a day whose clock changes nearby; both sides are searched, as they may overlap."""
        change = change_around(self._zone, day)
        found: list[int] = []
        wall = self._walls.after(second + change.old, last_year)
        if wall is not None and wall < self._last_old_wall(change):
            found.append(wall - change.old)
        wall = self._walls.after(max(second, change.at - 1) + change.new, last_year)
        if wall is not None:
            found.append(wall - change.new)
        return min((fire for fire in found if fire < (day + 1) * DAY), default=None)

    def _last_old_wall(self, change: Change) -> int:
        """Up to where the clock's old side names fires: to what it shows last, or to what the new side shows first.

        A skipped wall time that is shifted belongs to the old side, and the first pass of a repeated one does so only
        if it is to fire twice.
        """
        is_gap = change.new > change.old
        up_to_new = self._skipped is Skipped.SHIFT if is_gap else self._repeated is Repeated.ONCE
        return change.at + (change.new if up_to_new else change.old)


def _zone(expression: str, time_zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        reason = f"there is no time zone {time_zone!r}"
        raise InvalidTrigger(expression=expression, position=len(expression), reason=reason) from error
