"""How the plain values of a form are read: texts, numbers, durations; each refused with a ValueError that says why."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeGuard

Form = Mapping[str, object]

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1))
_MARKS = ("d", "h", "m", "s", "ms")
_LONGEST = timedelta(days=365)


def text_of(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def mapping_of(value: object) -> Form:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{value!r} is no set of names and values")
    return value


def is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def duration_of(value: object) -> timedelta:
    """Reads "30s", "5m", "1h30m", "250ms"; raises ValueError."""
    match = _DURATION.fullmatch(text_of(value))
    if match is None or not any(match.groups()):
        raise ValueError(f"{value!r} is no duration: write 30s, 5m, 1h30m or 3d")
    try:
        found = sum((int(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part), timedelta())
    except OverflowError:
        found = timedelta.max
    if found > _LONGEST:
        raise ValueError(f"{value!r} is longer than 365 days")
    return found


def duration_text(duration: timedelta) -> str:
    parts: list[str] = []
    for unit, mark in zip(_UNITS, _MARKS, strict=True):
        count, duration = divmod(duration, unit)
        if count:
            parts.append(f"{count}{mark}")
    return "".join(parts) or "0s"
