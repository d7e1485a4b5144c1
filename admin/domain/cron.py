"""Cron expressions as sets of numbers: Quartz with 6 or 7 fields, unix with 5; what is not understood is refused."""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from admin.domain.errors import InvalidTrigger

FIRST_YEAR, LAST_YEAR = 1970, 2199
_ALL_YEARS = frozenset(range(FIRST_YEAR, LAST_YEAR + 1))
_MONTH_NAMES = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_MONTHS = {name: i for i, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_ITEM = re.compile(r"(?P<any>[*?])|(?P<first>\d+|[A-Z]{3})(?:-(?P<last>\d+|[A-Z]{3}))?", re.IGNORECASE)
_STEP = re.compile(r"/(?P<step>\d+)")


class Dialect(enum.StrEnum):
    """Which cron: never guessed from the number of fields."""

    QUARTZ = enum.auto()
    UNIX = enum.auto()


@dataclass(frozen=True, slots=True)
class Fields:
    """The instants that an expression names, in wall time; days of the week count from 0, Sunday."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]
    either_day: bool  # unix: a day of the month or a day of the week is enough where both are given

    def has_day(self, day: int, weekday: int) -> bool:
        if self.either_day:
            return day in self.days or weekday in self.weekdays
        return day in self.days and weekday in self.weekdays


@dataclass(frozen=True, slots=True)
class _Field:
    low: int
    high: int
    names: dict[str, int]
    may_be_open: bool = False  # takes "?"


_SECOND = _Field(0, 59, {})
_MINUTE = _Field(0, 59, {})
_HOUR = _Field(0, 23, {})
_MONTH = _Field(1, 12, _MONTHS)
_YEAR = _Field(FIRST_YEAR, LAST_YEAR, {})
_QUARTZ = (
    _SECOND,
    _MINUTE,
    _HOUR,
    _Field(1, 31, {}, may_be_open=True),
    _MONTH,
    _Field(1, 7, {name: i for i, name in enumerate(_WEEKDAYS, 1)}, may_be_open=True),
    _YEAR,
)
_UNIX = (_MINUTE, _HOUR, _Field(1, 31, {}), _MONTH, _Field(0, 7, {name: i for i, name in enumerate(_WEEKDAYS)}))


def parse_cron(expression: str, dialect: Dialect) -> Fields:
    """Raises InvalidTrigger with the position, counted from 0."""
    words = [(match.start(), match.group()) for match in re.finditer(r"\S+", expression)]
    kinds = _QUARTZ if dialect is Dialect.QUARTZ else _UNIX
    least = 6 if dialect is Dialect.QUARTZ else 5
    if len(words) < least:
        raise _invalid(expression, len(expression), f"{least} fields are needed, {len(words)} are there")
    if len(words) > len(kinds):
        raise _invalid(expression, words[len(kinds)][0], f"a {dialect} expression has at most {len(kinds)} fields")
    sets = [_Reader(expression, kind, *word).read() for kind, word in zip(kinds, words, strict=False)]
    texts = [text for _, text in words]
    if dialect is Dialect.UNIX:
        return _unix_fields(sets, texts)
    _check_days(expression, words)
    seconds, minutes, hours = map(_rising, sets[:3])
    weekdays = frozenset(day - 1 for day in sets[5])
    years = sets[6] if len(sets) == len(_QUARTZ) else _ALL_YEARS
    return Fields(seconds, minutes, hours, sets[3], sets[4], weekdays, years, either_day=False)


def _unix_fields(sets: Sequence[frozenset[int]], texts: Sequence[str]) -> Fields:
    either_day = not texts[2].startswith("*") and not texts[4].startswith("*")
    weekdays = frozenset(day % 7 for day in sets[4])
    minutes, hours = map(_rising, sets[:2])
    return Fields((0,), minutes, hours, sets[2], sets[3], weekdays, _ALL_YEARS, either_day)


def _rising(values: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(values))


def _check_days(expression: str, words: Sequence[tuple[int, str]]) -> None:
    """Quartz has no meaning for a day of the month and a day of the week at once."""
    (_, day), (position, weekday) = words[3], words[5]
    if day == "?" and weekday == "?":
        raise _invalid(expression, position, "only one of day of month and day of week may be ?")
    if day not in "*?" and weekday not in "*?":
        raise _invalid(expression, position, "give a day of month or a day of week, and ? for the other")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one field, which stands at `start` of the expression."""

    expression: str
    kind: _Field
    start: int
    text: str

    def read(self) -> frozenset[int]:
        values: set[int] = set()
        position = 0
        for item in self.text.split(","):
            values.update(self._item(item, position))
            position += len(item) + 1
        return frozenset(values)

    def _item(self, item: str, position: int) -> range:
        head = _ITEM.match(item)
        if head is None:
            raise self._error(position, f"{item!r} is not understood")
        tail = _STEP.match(item, head.end())
        end = tail.end() if tail else head.end()
        if end != len(item):
            raise self._error(position + end, f"{item[end:]!r} is not supported here")
        step = int(tail["step"]) if tail else 0
        first, last = self._bounds(head, position, open_ended=tail is not None)
        if tail and not 1 <= step <= self.kind.high - self.kind.low:
            raise self._error(position + head.end() + 1, f"the step {step} is out of range")
        return range(first, last + 1, step or 1)

    def _bounds(self, head: re.Match[str], position: int, *, open_ended: bool) -> tuple[int, int]:
        if head["any"]:
            if head["any"] == "?" and (not self.kind.may_be_open or self.text != "?"):
                raise self._error(position, "? stands alone, for day of month or day of week")
            return self.kind.low, self.kind.high
        first = self._number(head["first"], position)
        if head["last"]:
            last = self._number(head["last"], position + head.start("last"))
            if last < first:
                raise self._error(position, f"the range {head[0]} runs backwards, which is not supported")
            return first, last
        return first, (self.kind.high if open_ended else first)

    def _number(self, text: str, position: int) -> int:
        value = int(text) if text.isdecimal() else self.kind.names.get(text.upper())
        if value is None or not self.kind.low <= value <= self.kind.high:
            raise self._error(position, f"{text} is not in {self.kind.low}-{self.kind.high}")
        return value

    def _error(self, position: int, reason: str) -> InvalidTrigger:
        return _invalid(self.expression, self.start + position, reason)


def _invalid(expression: str, position: int, reason: str) -> InvalidTrigger:
    return InvalidTrigger(expression=expression, position=position, reason=reason)
