"""Leases waiting shards to executors with free slots, and hands them over."""

from admin.ports import Clock, RunStore, Wakeup
from admin.scheduler.handover import Handover
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 0.25


class Dispatcher(Loop):
    """What the planner could not hand over by itself: runs that somebody asked for, second tries, what had no room."""

    name = "dispatcher"

    def __init__(self, runs: RunStore, handover: Handover, wakeup: Wakeup, clock: Clock) -> None:
        super().__init__(wakeup, clock)
        self._runs = runs
        self._handover = handover
        self._assigned = 0

    async def run_once(self) -> Counts:
        self._assigned = 0
        async with self._handover.turn() as takers:
            if takers is None:
                return {"assigned": 0}
            assignments = await self._runs.claim_waiting(takers)
            self._handover.know_waiting(takers, assignments)
            await self._handover.hand_over(assignments)
        self._assigned = len(assignments)
        return {"assigned": self._assigned}

    def pause_seconds(self) -> float:
        return 0.0 if self._assigned else PERIOD_SECONDS
