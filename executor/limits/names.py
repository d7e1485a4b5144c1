"""Checks what users give, and turns it into what stores keep."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from executor.limits.rules import Cap, Rate
from protos.errors import InvalidArgument

MAX_KEYS = 10_000  # of one call
MAX_MOST = 1_000
MAX_NAME = 128  # characters; longer keys are hashed
LONGEST = timedelta(days=3_660)
DEFAULT_CLAIM = timedelta(seconds=60)

_US = timedelta(microseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


def microseconds_of(instant: datetime) -> int:
    return (instant - _EPOCH) // _US


def name_of(key: object, prefix: str = "") -> str:
    """The key itself where it is short and plain, else its SHA-256: databases cut, fold and pad other texts each in its
    own way. Raises InvalidArgument.
    """
    if not isinstance(key, str) or not key:
        raise InvalidArgument(reason=f"a key of limits is a text that is not empty, not {key!r}")
    is_plain = key.isascii() and key.isprintable() and " " not in key and not key.startswith("sha256:")
    if is_plain and len(prefix) + len(key) <= MAX_NAME:
        return prefix + key
    return f"{prefix}sha256:{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def names_of(keys: Sequence[object], prefix: str = "") -> list[str]:
    """As `name_of`, in the order of the keys. Raises InvalidArgument."""
    if isinstance(keys, str) or not isinstance(keys, Sequence):
        raise InvalidArgument(reason=f"keys are a list of texts, not {type(keys).__name__}")
    if len(keys) > MAX_KEYS:
        raise InvalidArgument(reason=f"one call takes at most {MAX_KEYS} keys, not {len(keys)}")
    return [name_of(key, prefix) for key in keys]


def whole_us(what: str, duration: object) -> int:
    """Raises InvalidArgument for what is no duration of a millisecond to ten years."""
    if not isinstance(duration, timedelta):
        raise InvalidArgument(reason=f"{what} is a timedelta, not {duration!r}")
    if not timedelta(milliseconds=1) <= duration <= LONGEST:
        raise InvalidArgument(reason=f"{what} is a millisecond to {LONGEST.days} days long, not {duration}")
    return duration // _US


def claim_us_of(claim: timedelta | None, window_us: int) -> int:
    """How long a claim lasts: 60 s unless said, and never beyond the window. Raises InvalidArgument."""
    if claim is None:
        return min(DEFAULT_CLAIM // _US, window_us)
    claim_us = whole_us("claim", claim)
    if claim_us > window_us:
        raise InvalidArgument(reason=f"claim is no longer than the window, not {claim}")
    return claim_us


def rate_of(rate: int, per: timedelta, burst: int | None, n: int) -> Rate:
    """Raises InvalidArgument."""
    per_us, burst = whole_us("per", per), rate if burst is None else burst
    for what, count in (("rate", rate), ("burst", burst), ("n", n)):
        _refuse_unless_count(what, count)
    if rate > per_us:
        raise InvalidArgument(reason=f"a rate is at most one a microsecond, not {rate} in {per}")
    if n > burst:
        raise InvalidArgument(reason=f"n is at most the burst, which is {burst}: {n} would never be granted")
    made = Rate(-(-per_us // rate), burst)  # rounded up: never faster than asked for
    if made.fills_in_us > LONGEST // _US:
        raise InvalidArgument(reason=f"a bucket fills within {LONGEST.days} days, not {burst} at {rate} in {per}")
    return made


def cap_of(most: int, window: timedelta) -> Cap:
    """Raises InvalidArgument."""
    _refuse_unless_count("most", most, MAX_MOST)
    return Cap(most, whole_us("window", window))


def _refuse_unless_count(what: str, count: object, limit: int | None = None) -> None:
    if not isinstance(count, int) or count < 1 or (limit is not None and count > limit):
        reach = "from 1" if limit is None else f"from 1 to {limit}"
        raise InvalidArgument(reason=f"{what} is a whole number {reach}, not {count!r}")
