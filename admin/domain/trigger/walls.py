"""The next wall time that an expression names, in seconds of a clock that never changes: a few bisections."""

from bisect import bisect_left, bisect_right
from calendar import isleap
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

from admin.domain.trigger.days import Month
from admin.domain.trigger.expression import Fields

DAY = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FEBRUARY = 2


class Walls:
    """Seconds since the clock showed 1970-01-01T00:00:00."""

    __slots__ = ("_days", "_fields", "_first_time", "_months")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._months = frozenset(fields.months)
        self._first_time = _seconds(fields.hours[0], fields.minutes[0], fields.seconds[0])
        self._days: list[tuple[int, ...] | None] = [None] * Month.SHAPES

    def after(self, wall: int, last_year: int) -> int | None:
        """Strictly behind `wall`; None where there is none up to the end of `last_year`."""
        day, second = divmod(wall + 1, DAY)
        at = date.fromordinal(day + _EPOCH_DAY)
        if at.year > last_year:
            return None
        if self._has(at.year, at.month):
            days = self._days_of(_month_of(at.year, at.month)[1])
            index = bisect_left(days, at.day)
            if index < len(days) and days[index] == at.day:
                if (time := self._time_from(second)) is not None:
                    return day * DAY + time
                index += 1
            if index < len(days):
                return (day + days[index] - at.day) * DAY + self._first_time
        return self._in_later_month(at.year, at.month, last_year)

    def _time_from(self, second: int) -> int | None:
        """The first time of day that is not before this one."""
        hours, minutes, seconds = self._fields.hours, self._fields.minutes, self._fields.seconds
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        at_hour = bisect_left(hours, hour)
        if at_hour < len(hours) and hours[at_hour] == hour:
            at_minute = bisect_left(minutes, minute)
            if at_minute < len(minutes) and minutes[at_minute] == minute:
                at_second = bisect_left(seconds, second)
                if at_second < len(seconds):
                    return _seconds(hour, minute, seconds[at_second])
                at_minute += 1
            if at_minute < len(minutes):
                return _seconds(hour, minutes[at_minute], seconds[0])
            at_hour += 1
        return _seconds(hours[at_hour], minutes[0], seconds[0]) if at_hour < len(hours) else None

    def _in_later_month(self, year: int, month: int, last_year: int) -> int | None:
        months = self._fields.months
        if self._fields.years is None or year in self._fields.years:
            found = self._in_months(year, months[bisect_right(months, month) :])
            if found is not None:
                return found
        for later in self._years_after(year, last_year):
            if (found := self._in_months(later, months)) is not None:
                return found
        return None

    def _in_months(self, year: int, months: Iterable[int]) -> int | None:
        for month in months:
            first_day, shape = _month_of(year, month)
            if days := self._days_of(shape):
                return (first_day + days[0] - 1) * DAY + self._first_time
        return None

    def _years_after(self, year: int, last_year: int) -> Iterable[int]:
        if self._fields.years is None:
            return range(year + 1, last_year + 1)
        return (later for later in self._fields.years if year < later <= last_year)

    def _has(self, year: int, month: int) -> bool:
        return month in self._months and (self._fields.years is None or year in self._fields.years)

    def _days_of(self, shape: Month) -> tuple[int, ...]:
        days = self._days[shape.key]
        if days is None:
            days = self._days[shape.key] = self._fields.days.of(shape)
        return days


@lru_cache(maxsize=4096)
def _month_of(year: int, month: int) -> tuple[int, Month]:
    """The day that a month begins with, counted from 1970-01-01, and the month's shape."""
    first = date(year, month, 1).toordinal()
    return first - _EPOCH_DAY, Month(first % 7, _LENGTHS[month] + (month == _FEBRUARY and isleap(year)))


def _seconds(hour: int, minute: int, second: int) -> int:
    return hour * 3600 + minute * 60 + second
