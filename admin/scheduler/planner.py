"""Turns due jobs into runs."""

from collections.abc import Callable
from datetime import datetime

from admin.domain.job import Job
from admin.domain.names import RunId
from admin.domain.plan import Planned, plan
from admin.operations.fleet import Fleet
from admin.ports import Clock, RunStore, Wakeup
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 1.0
JOBS_A_ROUND = 500


class Planner(Loop):
    """Runs and shards are written in the transaction that moves the fire times."""

    name = "planner"

    def __init__(
        self, runs: RunStore, fleet: Fleet, wakeup: Wakeup, clock: Clock, new_run_id: Callable[[], RunId]
    ) -> None:
        super().__init__(wakeup, clock)
        self._runs = runs
        self._fleet = fleet
        self._new_run_id = new_run_id
        self._next_due_at: datetime | None = None

    async def run_once(self) -> Counts:
        now, alive = self._clock(), self._fleet.alive()

        def planned(job: Job, is_active: bool) -> Planned:
            executors = alive.count(job.definition.group)
            return plan(job, now, is_active=is_active, executors=executors, new_id=self._new_run_id)

        due = await self._runs.claim_due(now, JOBS_A_ROUND, planned)
        self._next_due_at = due.next_due_at
        if due.runs:
            self._wakeup.ring("dispatcher")
        return {"jobs": due.jobs, "runs": len(due.runs)}

    def pause_seconds(self) -> float:
        if self._next_due_at is None:
            return PERIOD_SECONDS
        return min(PERIOD_SECONDS, max(0.0, (self._next_due_at - self._clock()).total_seconds()))
