"""What this process has done since its start, counted where it happens."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BUCKETS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0)  # seconds
LOST = "lost"  # the state of an attempt that reports nothing: the admin takes its shard away


@dataclass(slots=True)
class Durations:
    """How many attempts took how long; the last bucket has no bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total_seconds += seconds


@dataclass(slots=True)
class Tally:
    """Belongs to the daemon's loop. Rows and messages are those of attempts that have ended."""

    attempts: Counter[str] = field(default_factory=Counter)  # that have ended, by state
    durations: dict[str, Durations] = field(default_factory=dict)  # by handler
    rows: int = 0
    published: int = 0
    log_lines_dropped: int = 0

    def add_attempt(self, handler: str, state: str | None, seconds: float) -> None:
        """`state` as it is reported; None: it is not."""
        self.attempts[state or LOST] += 1
        self.durations.setdefault(handler, Durations()).add(seconds)

    def add_gain(self, rows: int, published: int) -> None:
        self.rows += rows
        self.published += published


@dataclass(frozen=True, slots=True)
class Figures:
    """`rows` and `published` count attempts in progress too."""

    tally: Tally
    rows: int
    published: int
    in_progress: int
    slots: int
    reports_waiting: int
    was_welcomed: bool
    is_linked: bool
    is_draining: bool


def why_unready(figures: Figures) -> str | None:
    """Why no shards can come; None: they can."""
    if figures.is_draining:
        return "It drains."
    if not figures.was_welcomed:
        return "No admin has let it in yet."
    if not figures.is_linked:
        return "It has lost its link and looks for an admin."
    return None
