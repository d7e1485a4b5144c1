"""Expressions of every form that Quartz has, drawn from one seed, and instants to ask it about."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

ZONES = (
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/St_Johns",
)
_CHANGING = ZONES[2:]
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIRES = 7
_DAY, _HOUR = 86_400, 3600

# One of each row of the table of what Quartz does otherwise, and of what it only accepts by accident.
ODD = (
    "0 0 0 1,15W * ?",
    "0 0 12 10W,20W * ?",
    "0 0 0 15W,L * ?",
    "0 0 0 L,15 * ?",
    "0 0 0 LW,1W * ?",
    "0 0 0 ? * MON,WED#2",
    "0 0 0 ? * MON#1,WED#2",
    "0 0 0 ? * MONL,WED",
    "0 0 0 ? * THU,FRI#1",
    "0 0 12/6 15,26W 4 ?",
    "0 0/20 * 17,23W * ?",
    "0 0 0 29W * ?",
    "0 0 0 30W * ?",
    "0 0 0 31W * ?",
    "0 0 0 0W * ?",
    "0 0 0 L-28W * ?",
    "0 0 0 L-29W * ?",
    "0 0 0 L-30W * ?",
    "0 0 0 L-30 * ?",
    "0 0 0 L-31 * ?",
    "0 0 0 ? * L",
    "0 0 0 ? * MON-FRI/2",
    "0 0 0 ? * MON/3",
    "0 0 0 1 JAN/3 ?",
    "0 0 0 1 FEB-NOV/4 ?",
    "0 0 0 ? * MON-6",
    "0 0 0 1 JAN-6 ?",
    "0 0 0 ? * 2-FRI",
    "0 0 0 ? * TUES",
    "0 0 0 1 JUNE ?",
    "5x 0 0 * * ?",
    "0 0 10am * * ?",
    "** 0 0 * * ?",
    "0 0 0 ?,5 * ?",
    "0 0 0 1 1 ? 2027 8",
    "0 0 0 1,,5 * ?",
    "0 0 0 ,1 * ?",
    "0/0 0 0 * * ?",
    "0 0/-5 0 * * ?",
    "0 0 99 * * ?",
    "0 60 0 * * ?",
    "0 0 0 1-5W * ?",
    "0 0 0 1-5L * ?",
    "0 0 0 ? * MON-FRI#2",
    "0 0 0 ? * 2-6L",
    "0 0 0 * * *",
    "0 0 0 15 * *",
    "0 0 0 * * MON",
    "0 0 0 15 * MON",
    "0 0 0 ? * ?",
    "0 0 0 ? * 6#6",
    "0 0 0 ? * 8",
    "0 0 0 32 * ?",
    "0 0 0 1 13 ?",
    "0 0 0 1 1 ? 2030-2027",
    "0 0 0 1 1 ? 2125",
    "0 0 0 1 1 ? 2150",
    "0 0 0 1 1 ? 1999",
    "0 0 0 30 2 ?",
    "0 0 0 29 2 ?",
    "0 0 0 29 2 ? 2090/1",
    "0 0 0 1 1 ? 2120/1",
    "/15 /20 /6 * * ?",
    "0 0 0 /10 * ?",
    "0 0 0 1 /3 ?",
    "0 0 9 ? * friL",
    "0 0 9 lw * ?",
)


def questions(seed: int, count: int) -> Iterator[tuple[str, int, str]]:
    """(zone, after in seconds since 1970, expression)."""
    random = Random(seed)
    for expression in ODD:
        yield "UTC", _second(2026, 11, 22), expression
    yield "UTC", _second(2122, 6, 1), "0 0 0 1 1 ?"
    for number in range(count):
        zone = ZONES[number % len(ZONES)]
        yield zone, _after(random, zone), expression_of(random)
    for number in range(count // 8):
        zone = _CHANGING[number % len(_CHANGING)]
        yield zone, random.choice(_changes(zone)) + random.randrange(-2 * _HOUR, _HOUR), _of_the_night(random)


def _of_the_night(random: Random) -> str:
    """Fires in the hours in which clocks change."""
    a, b = random.randint(0, 59), random.randint(0, 59)
    seconds = random.choice(("0", "0", "30", "*/20"))
    minutes = random.choice((str(a), f"{a},{b}", "*/15", "*/7", "0-20", "20-50/5", "*"))
    hours = random.choice(("0", "1", "2", "1-3", "2,3", "*", "1/2", "*/2"))
    return f"{seconds} {minutes} {hours} * * ?"


def _after(random: Random, zone: str) -> int:
    """In 2026 or 2027, more often than not around a change of the zone's clock."""
    if zone in _CHANGING:
        change = random.choice(_changes(zone))
        if random.random() < 0.6:
            return change + random.randrange(-8 * _HOUR, 4 * _HOUR)
        if random.random() < 0.5:
            return change - random.randrange(2 * _DAY)
    return _second(2026, 1, 1) + random.randrange(2 * 365 * _DAY)


@cache
def _changes(zone: str) -> list[int]:
    place, start = ZoneInfo(zone), _second(2026, 1, 1)
    hours = range(start, start + 2 * 365 * _DAY, _HOUR // 2)
    offsets = [datetime.fromtimestamp(hour, place).utcoffset() for hour in hours]
    return [hour for (old, new), hour in zip(pairwise(offsets), hours[1:], strict=True) if old != new]


def _second(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def expression_of(random: Random) -> str:
    seconds = random.choice(("0", "0", "0", _numbers(random, 0, 59)))
    minutes = _numbers(random, 0, 59)
    hours = _numbers(random, 0, 23) if random.random() < 0.6 else random.choice(("*", "0-4", "1,2", "2", "1-3/2"))
    month = "*" if random.random() < 0.7 else _named(random, MONTHS, 1)
    kind = random.random()
    if kind < 0.35:
        days, weekdays = "*", "?"
    elif kind < 0.65:
        days, weekdays = random.choice(_DAYS)(random), "?"
    else:
        days, weekdays = random.choice(("?", "?", "*")), random.choice(_WEEKDAYS)(random)
        days = "?" if weekdays != "?" else days
    year = "" if random.random() < 0.85 else random.choice((" *", " 2026-2028", " 2027", " 2026/3", " 2027,2029"))
    return f"{seconds} {minutes} {hours} {days} {month} {weekdays}{year}"


def _numbers(random: Random, low: int, high: int) -> str:
    """A list, a range, one that wraps, steps, or anything."""
    a, b = random.randint(low, high), random.randint(low, high)
    step = random.randint(1, max(2, (high - low) // 2))
    forms = (
        "*",
        str(a),
        str(a),
        f"{a},{b}",
        ",".join(str(random.randint(low, high)) for _ in range(4)),
        f"{min(a, b)}-{max(a, b)}",
        f"{a}-{b}",
        f"*/{step}",
        f"{a}/{step}",
        f"{min(a, b)}-{max(a, b)}/{step}",
        f"{a}-{b}/{step}",
        f"{a},{low}/{step}",
    )
    return random.choice(forms)


def _named(random: Random, names: tuple[str, ...], low: int) -> str:
    if random.random() < 0.5:
        return _numbers(random, low, low + len(names) - 1)
    a, b, c = (random.choice(names) for _ in range(3))
    return random.choice((a, f"{a},{b}", f"{a},{b},{c}", f"{a}-{b}", f"{a}-{b},{c}", a.lower()))


def _weekday(random: Random) -> str:
    return random.choice((*WEEKDAYS, *map(str, range(1, 8))))


_DAYS: tuple[Callable[[Random], str], ...] = (
    lambda random: _numbers(random, 1, 31),
    lambda random: _numbers(random, 1, 31),
    lambda random: "L",
    lambda random: f"L-{random.randint(1, 30)}",
    lambda random: "LW",
    lambda random: f"L-{random.randint(1, 27)}W",
    lambda random: f"{random.randint(1, 31)}W",
    lambda random: f"{random.randint(1, 28)}W",
)
_WEEKDAYS: tuple[Callable[[Random], str], ...] = (
    lambda random: _named(random, WEEKDAYS, 1),
    lambda random: _named(random, WEEKDAYS, 1),
    lambda random: f"{_weekday(random)}#{random.randint(1, 5)}",
    lambda random: f"{_weekday(random)}L",
    lambda random: "L",
)
