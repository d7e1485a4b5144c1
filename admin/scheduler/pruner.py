"""Forgets what has been kept for long enough, in small steps, so that nobody waits for it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from admin.ports import Clock, Wakeup
from admin.scheduler.loop import Counts, Loop

ROWS_A_STEP = 500
STEP_SECONDS = 0.05  # between two steps, for the others
PERIOD_SECONDS = 60.0  # when there was nothing to forget


class Prunable(Protocol):
    """Something that grows."""

    @property
    def name(self) -> str:
        """Of what is counted."""

    async def prune(self, now: datetime, limit: int) -> int:
        """Forgets at most so much of it; how much it was."""


class Pruner(Loop):
    """Everything that grows has its turn in each round."""

    name = "pruner"

    def __init__(self, growing: Sequence[Prunable], wakeup: Wakeup, clock: Clock) -> None:
        super().__init__(wakeup, clock)
        self._growing = growing
        self._has_more = False

    async def run_once(self) -> Counts:
        now = self._clock()
        self._has_more = False
        counts = {each.name: await each.prune(now, ROWS_A_STEP) for each in self._growing}
        self._has_more = any(counts.values())
        return counts

    def pause_seconds(self) -> float:
        return STEP_SECONDS if self._has_more else PERIOD_SECONDS
