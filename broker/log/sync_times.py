"""How long syncs take: those of the last minute one by one, and all since the start by buckets."""

from array import array
from bisect import bisect_left
from dataclasses import dataclass

BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0)
"""Upper bounds in seconds; what took longer is in one more."""

_KEPT = 65_536  # more than a thousand a second; beyond that the last minute is a little shorter
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took, `count` times; seconds."""

    count: int
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Since the start: how many by bucket, the last for what took longer than all bounds; seconds together."""

    counts: tuple[int, ...]
    total: float


class SyncTimes:
    """One thread at a time adds, any may look. Instants are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._ended_at = array("d", bytes(8 * _KEPT))
        self._seconds = array("f", bytes(4 * _KEPT))
        self._added = 0
        self._counts = [0] * (len(BUCKETS) + 1)
        self._total = 0.0

    def add(self, ended_at: float, seconds: float) -> None:
        """A sync took so long and ended then."""
        at = self._added % _KEPT
        self._ended_at[at], self._seconds[at] = ended_at, seconds
        self._added += 1
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._total += seconds

    def last_minute(self, now: float) -> Durations:
        """Of the syncs that ended in the last minute."""
        held = min(self._added, _KEPT)
        recent = zip(self._ended_at[:held], self._seconds[:held], strict=True)
        seconds = sorted(seconds for ended_at, seconds in recent if now - ended_at < _MINUTE)
        if not seconds:
            return Durations(0)
        median, late = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
        return Durations(len(seconds), median, late, seconds[-1])

    def histogram(self) -> Histogram:
        return Histogram((*self._counts,), self._total)
