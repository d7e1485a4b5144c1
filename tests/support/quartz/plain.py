"""A plain reading of Quartz's expressions: whether one names a wall time, told from its text alone."""

from calendar import monthrange
from datetime import datetime, timedelta

from tests.support.quartz.expressions import MONTHS, WEEKDAYS


def names(expression: str, wall: datetime) -> bool:
    """Whether the expression fires when a clock shows this."""
    second, minute, hour, day, month, weekday, *year = expression.upper().split()
    return (
        has(second, wall.second, 0, 59)
        and has(minute, wall.minute, 0, 59)
        and has(hour, wall.hour, 0, 23)
        and has(month, wall.month, 1, 12, MONTHS)
        and (not year or has(year[0], wall.year, 1970, 2199))
        and any(_is_day(item, wall) for item in day.split(","))
        and any(_is_weekday(item, wall) for item in weekday.split(","))
    )


def has(field: str, value: int, low: int, high: int, texts: tuple[str, ...] = ()) -> bool:
    """Whether a field made of numbers, names, ranges and steps holds the value."""
    return any(_item_has(item, value, low, high, texts) for item in field.split(","))


def _item_has(item: str, value: int, low: int, high: int, texts: tuple[str, ...]) -> bool:
    span, _, step = item.partition("/")
    first, _, last = (str(low), "-", str(high)) if span in ("*", "?", "") else span.partition("-")
    start = _number(first, texts)
    end = _number(last, texts) if last else high if step else start
    size = high - low + 1
    return (value - start) % size <= (end - start) % size and (value - start) % size % int(step or 1) == 0


def _number(text: str, texts: tuple[str, ...]) -> int:
    return texts.index(text) + 1 if text in texts else int(text)


def _is_day(item: str, wall: datetime) -> bool:
    length = monthrange(wall.year, wall.month)[1]
    if item.startswith("L"):
        item = f"{length - int(item[2:].rstrip('W') or 0)}{'W' * item.endswith('W')}"
    if not item.endswith("W"):
        return _item_has(item, wall.day, 1, 31, ())
    return _day_or_none(wall, int(item[:-1]), length) == wall.day


def _day_or_none(wall: datetime, day: int, length: int) -> int | None:
    """The workday of the month that is nearest to a day of it."""
    if not 1 <= day <= length:
        return None
    wanted = wall.replace(day=day)
    near = (wanted + timedelta(days=step) for step in (0, -1, 1, -2, 2))
    return next(each.day for each in near if each.isoweekday() < 6 and each.month == wall.month)


def _is_weekday(item: str, wall: datetime) -> bool:
    weekday = wall.isoweekday() % 7 + 1
    if item == "L":
        return weekday == 7
    if item.endswith("L"):
        return weekday == _number(item[:-1], WEEKDAYS) and (wall + timedelta(days=7)).month != wall.month
    if "#" in item:
        text, nth = item.split("#")
        return weekday == _number(text, WEEKDAYS) and (wall.day - 1) // 7 + 1 == int(nth)
    return _item_has(item, weekday, 1, 7, WEEKDAYS)
