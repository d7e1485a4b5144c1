"""Which days of a month an expression names: all that matters of a month is its length and the weekday it begins on."""

from dataclasses import dataclass
from typing import ClassVar

SUNDAY, SATURDAY = 0, 6
_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Month:
    """A month's shape; `first` is the weekday of its first day, counted from 0, Sunday."""

    SHAPES: ClassVar = 28

    first: int
    length: int

    @property
    def key(self) -> int:
        return self.first * 4 + self.length - 28

    def weekday(self, day: int) -> int:
        return (self.first + day - 1) % 7

    def has(self, day: int) -> bool:
        return 1 <= day <= self.length

    def nearest_workday(self, day: int) -> int:
        """From Monday to Friday, never in another month."""
        match self.weekday(day):
            case 6:
                return day - 1 if day > 1 else day + 2
            case 0:
                return day + 1 if day < self.length else day - 2
            case _:
                return day


@dataclass(frozen=True, slots=True)
class MonthDays:
    """The field of days of the month: 15, 15W, L-3, L-3W."""

    days: frozenset[int] = _NOTHING
    workdays_near: frozenset[int] = _NOTHING
    from_last: frozenset[int] = _NOTHING
    workdays_near_last: frozenset[int] = _NOTHING

    def of(self, month: Month) -> frozenset[int]:
        last = {month.length - back for back in self.from_last}
        near = self.workdays_near | {month.length - back for back in self.workdays_near_last}
        found = filter(month.has, self.days | last)
        return frozenset(found) | {month.nearest_workday(day) for day in near if month.has(day)}


@dataclass(frozen=True, slots=True)
class Weekdays:
    """The field of days of the week, counted from 0, Sunday: 5, 5#3 (the third of the month), 5L (the last one)."""

    days: frozenset[int] = _NOTHING
    nth: frozenset[tuple[int, int]] = frozenset()
    last: frozenset[int] = _NOTHING

    def of(self, month: Month) -> frozenset[int]:
        return frozenset(day for day in range(1, month.length + 1) if self._has(month, day))

    def _has(self, month: Month, day: int) -> bool:
        weekday = month.weekday(day)
        return (
            weekday in self.days
            or (weekday, (day + 6) // 7) in self.nth
            or (weekday in self.last and day + 7 > month.length)
        )


@dataclass(frozen=True, slots=True)
class Days:
    """Both fields of days. Unix takes a day that either one names where both are given."""

    of_month: MonthDays
    of_week: Weekdays
    is_either: bool

    def of(self, month: Month) -> tuple[int, ...]:
        """In rising order."""
        by_month, by_week = self.of_month.of(month), self.of_week.of(month)
        return tuple(sorted(by_month | by_week if self.is_either else by_month & by_week))
