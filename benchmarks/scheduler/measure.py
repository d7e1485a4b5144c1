"""From samples to figures: which fires of a window arrived, how late, and which are lost or doubled."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Arrival(NamedTuple):
    """Of a fire at an executor, in milliseconds since the epoch."""

    number: int  # of the job
    fire: int
    at: float
    is_finished: bool  # its outcome was accepted


@dataclass(frozen=True, slots=True)
class Window:
    """The arrivals of one-second jobs whose fire time lies in [begin, end), both whole seconds in ms."""

    begin: int
    end: int
    expected: int
    arrived: int
    finished: int
    doubled: int
    late: Sequence[float]  # ms behind the fire time, rising; of the first arrival of each fire
    late_at_end: Sequence[float]  # the same of those fires of the last second that arrived

    @property
    def lost(self) -> int:
        return self.expected - self.arrived

    @property
    def is_kept_up_with(self) -> bool:
        """All came once and are finished, half of the last second's within a second: the backlog did not grow."""
        is_exact = self.lost == 0 and self.doubled == 0 and self.finished == self.expected
        return is_exact and bool(self.late_at_end) and percentile(self.late_at_end, 50) < 1_000


def window(arrivals: Iterable[Arrival], jobs: int, begin: int, end: int, until: float) -> Window:
    """What has not arrived at `until` is as late as the last fire would be by then, or later."""
    seen = Counter[tuple[int, int]]()
    late: list[float] = []
    late_at_end: list[float] = []
    finished = set()
    for number, fire, at, is_finished in arrivals:
        if not begin <= fire < end:
            continue
        seen[number, fire] += 1
        if is_finished:
            finished.add((number, fire))
        if seen[number, fire] == 1:
            (late_at_end if fire >= end - 1_000 else late).append(at - fire)
    doubled = seen.total() - len(seen)
    expected = jobs * (end - begin) // 1_000
    missing = [until - end] * (expected - len(seen))
    all_late = sorted(late + late_at_end + missing)
    return Window(begin, end, expected, len(seen), len(finished), doubled, all_late, sorted(late_at_end))


def percentile(rising: Sequence[float], percent: int) -> float:
    """What so many percent of them stayed under; 0 of none."""
    return rising[min(len(rising) * percent // 100, len(rising) - 1)] if rising else 0.0
