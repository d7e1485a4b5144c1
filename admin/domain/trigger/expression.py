"""Cron expressions as sets of numbers: Quartz with 6 or 7 fields, unix with 5; what is not understood is refused."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from admin.domain.errors import InvalidTrigger
from admin.domain.trigger.days import SATURDAY, Days, MonthDays, Weekdays
from admin.domain.trigger.kinds import Dialect

FIRST_YEAR, LAST_YEAR = 1970, 2199
MAX_LENGTH = 1000
MAX_BACK = 30  # L-30 is the first of a long month
MAX_NTH = 5
_MONTH_NAMES = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_MONTHS = {name: i for i, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_VALUE = "[0-9]{1,9}|[A-Z]{3}"
_ITEM = re.compile(rf"(?P<any>[*?]|(?=/))|(?P<first>{_VALUE})(?:-(?P<last>{_VALUE}))?", re.IGNORECASE)
_STEP = re.compile(r"/(?P<step>[0-9]{1,9})")
_LAST_DAY = re.compile(r"L(?:-(?P<back>[0-9]{1,9}))?(?P<near>W)?", re.IGNORECASE)
_NEAR_DAY = re.compile(r"(?P<day>[0-9]{1,9})W", re.IGNORECASE)
_LAST_WEEKDAY = re.compile(rf"(?P<day>{_VALUE})L", re.IGNORECASE)
_NTH_WEEKDAY = re.compile(rf"(?P<day>{_VALUE})#(?P<nth>[0-9]{{1,9}})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fields:
    """The wall times that an expression names; all numbers rise."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: tuple[int, ...]
    years: tuple[int, ...] | None  # None: every year


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a field may hold; only a ring goes on from its highest number with its lowest."""

    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    most_step: int = 59
    is_ring: bool = True
    may_be_open: bool = False  # takes "?"
    may_begin_with_step: bool = True  # takes "/5"


_MINUTE = _Kind(0, 59)
_MONTH = _Kind(1, 12, _MONTHS, 12)
_QUARTZ = (
    _MINUTE,
    _MINUTE,
    _Kind(0, 23, most_step=23),
    _Kind(1, 31, most_step=31, may_be_open=True),
    _MONTH,
    _Kind(1, 7, {name: i for i, name in enumerate(_WEEKDAYS, 1)}, 7, may_be_open=True),
    _Kind(FIRST_YEAR, LAST_YEAR, most_step=LAST_YEAR - FIRST_YEAR, is_ring=False),
)
_UNIX = tuple(
    _Kind(low, high, names, most_step, is_ring=False, may_begin_with_step=False)
    for low, high, names, most_step in (
        (0, 59, {}, 59),
        (0, 23, {}, 23),
        (1, 31, {}, 31),
        (1, 12, _MONTHS, 12),
        (0, 7, {name: i for i, name in enumerate(_WEEKDAYS)}, 7),
    )
)


def parse_cron(expression: str, dialect: Dialect) -> Fields:
    """Raises InvalidTrigger with the position, counted from 0."""
    if len(expression) > MAX_LENGTH:
        raise _invalid(expression, MAX_LENGTH, f"an expression has at most {MAX_LENGTH} characters")
    words = [(match.start(), match.group()) for match in re.finditer(r"\S+", expression)]
    kinds = _QUARTZ if dialect is Dialect.QUARTZ else _UNIX
    least = 6 if dialect is Dialect.QUARTZ else 5
    if len(words) < least:
        raise _invalid(expression, len(expression), f"{least} fields are needed, {len(words)} are there")
    if len(words) > len(kinds):
        raise _invalid(expression, words[len(kinds)][0], f"a {dialect} expression has at most {len(kinds)} fields")
    readers = [_Reader(expression, kind, *word) for kind, word in zip(kinds, words, strict=False)]
    return _quartz_fields(expression, readers) if dialect is Dialect.QUARTZ else _unix_fields(readers)


def _quartz_fields(expression: str, readers: Sequence["_Reader"]) -> Fields:
    seconds, minutes, hours = (reader.read() for reader in readers[:3])
    days, months = _month_days(readers[3]), readers[4].read()
    weekdays = _weekdays(readers[5])
    years = readers[6].read() if len(readers) == len(_QUARTZ) else None
    _check_days(expression, readers[3], readers[5])
    return Fields(seconds, minutes, hours, Days(days, weekdays, is_either=False), months, years)


def _unix_fields(readers: Sequence["_Reader"]) -> Fields:
    minutes, hours, days, months, weekdays = (reader.read() for reader in readers)
    is_either = not readers[2].text.startswith("*") and not readers[4].text.startswith("*")
    of_week = Weekdays(frozenset(day % 7 for day in weekdays))
    return Fields((0,), minutes, hours, Days(MonthDays(frozenset(days)), of_week, is_either), months, None)


def _check_days(expression: str, days: "_Reader", weekdays: "_Reader") -> None:
    """Quartz has no meaning for a day of the month and a day of the week at once."""
    if days.text == "?" and weekdays.text == "?":
        raise _invalid(expression, weekdays.start, "only one of day of month and day of week may be ?")
    if days.text not in "*?" and weekdays.text not in "*?":
        raise _invalid(expression, weekdays.start, "give a day of month or a day of week, and ? for the other")


def _month_days(reader: "_Reader") -> MonthDays:
    days: set[int] = set()
    near: set[int] = set()
    from_last: set[int] = set()
    near_last: set[int] = set()
    for position, item in reader.items():
        if match := _LAST_DAY.fullmatch(item):
            back = int(match["back"] or 0)
            if back > MAX_BACK:
                raise reader.error(position + match.start("back"), f"{back} is not in 0-{MAX_BACK}")
            (near_last if match["near"] else from_last).add(back)
        elif match := _NEAR_DAY.fullmatch(item):
            near.add(reader.number(match["day"], position))
        else:
            days.update(reader.values(item, position))
    return MonthDays(frozenset(days), frozenset(near), frozenset(from_last), frozenset(near_last))


def _weekdays(reader: "_Reader") -> Weekdays:
    if reader.text in ("L", "l"):
        return Weekdays(frozenset({SATURDAY}))
    days: set[int] = set()
    nth: set[tuple[int, int]] = set()
    last: set[int] = set()
    for position, item in reader.items():
        if match := _LAST_WEEKDAY.fullmatch(item):
            last.add(reader.number(match["day"], position) - 1)
        elif match := _NTH_WEEKDAY.fullmatch(item):
            count = int(match["nth"])
            if not 1 <= count <= MAX_NTH:
                raise reader.error(position + match.start("nth"), f"{count} is not in 1-{MAX_NTH}")
            nth.add((reader.number(match["day"], position) - 1, count))
        else:
            days.update(day - 1 for day in reader.values(item, position))
    return Weekdays(frozenset(days), frozenset(nth), frozenset(last))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one field, which stands at `start` of the expression."""

    expression: str
    kind: _Kind
    start: int
    text: str

    def read(self) -> tuple[int, ...]:
        values: set[int] = set()
        for position, item in self.items():
            values.update(self.values(item, position))
        return tuple(sorted(values))

    def items(self) -> Iterator[tuple[int, str]]:
        """The parts of a list, with their positions in the field."""
        position = 0
        for item in self.text.split(","):
            yield position, item
            position += len(item) + 1

    def values(self, item: str, position: int) -> Iterator[int]:
        """Of an item made of numbers, names, ranges and steps."""
        head = _ITEM.match(item)
        if head is None:
            raise self.error(position, f"{item!r} is not understood")
        tail = _STEP.match(item, head.end())
        end = tail.end() if tail else head.end()
        if end != len(item):
            raise self.error(position + end, f"{item[end:]!r} is not supported here")
        step = int(tail["step"]) if tail else 1
        first, last = self._bounds(head, position, open_ended=tail is not None)
        if not 1 <= step <= self.kind.most_step:
            raise self.error(position + head.end() + 1, f"the step {step} is out of range")
        size = self.kind.high - self.kind.low + 1
        return ((value - self.kind.low) % size + self.kind.low for value in range(first, last + 1, step))

    def _bounds(self, head: re.Match[str], position: int, *, open_ended: bool) -> tuple[int, int]:
        """The last one lies behind the highest number where a range goes on from the lowest."""
        if head["any"] is not None:
            self._check_any(head["any"], position)
            return self.kind.low, self.kind.high
        first = self.number(head["first"], position)
        if not head["last"]:
            return first, (self.kind.high if open_ended else first)
        last = self.number(head["last"], position + head.start("last"))
        if last < first and not self.kind.is_ring:
            raise self.error(position, f"the range {head[0]} runs backwards, which is not supported")
        return first, last if last >= first else last + self.kind.high - self.kind.low + 1

    def _check_any(self, sign: str, position: int) -> None:
        if sign == "?" and (not self.kind.may_be_open or self.text != "?"):
            raise self.error(position, "? stands alone, for day of month or day of week")
        if not sign and not self.kind.may_begin_with_step:
            raise self.error(position, "a step needs a number or * before it")

    def number(self, text: str, position: int) -> int:
        value = int(text) if text.isdecimal() else self.kind.names.get(text.upper())
        if value is None or not self.kind.low <= value <= self.kind.high:
            raise self.error(position, f"{text} is not in {self.kind.low}-{self.kind.high}")
        return value

    def error(self, position: int, reason: str) -> InvalidTrigger:
        return _invalid(self.expression, self.start + position, reason)


def _invalid(expression: str, position: int, reason: str) -> InvalidTrigger:
    return InvalidTrigger(expression=expression, position=position, reason=reason)
