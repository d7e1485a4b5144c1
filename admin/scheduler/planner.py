"""Turns due jobs into runs."""

from collections.abc import Callable
from datetime import datetime, timedelta

from admin.domain.job import Job
from admin.domain.names import RunId
from admin.domain.overlap import Active
from admin.domain.plan import Planned, plan
from admin.operations.fleet import Alive, Fleet
from admin.ports import Clock, RunStore, Wakeup
from admin.scheduler.handover import Handover
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 1.0
JOBS_A_ROUND = 500


class Planner(Loop):
    """Runs and shards are written in the transaction that moves the fire times, leased already where there is room."""

    name = "planner"

    def __init__(
        self,
        runs: RunStore,
        fleet: Fleet,
        handover: Handover,
        wakeup: Wakeup,
        clock: Clock,
        *,
        new_run_id: Callable[[], RunId],
    ) -> None:
        super().__init__(wakeup, clock)
        self._runs = runs
        self._handover = handover
        self._fleet = fleet
        self._new_run_id = new_run_id
        self._wait: timedelta | None = None
        self._alive = Alive(())

    async def run_once(self) -> Counts:
        self._alive = self._fleet.alive()  # here, as transactions have threads of their own
        async with self._handover.turn(of_new=True) as takers:
            due = await self._runs.claim_due(JOBS_A_ROUND, self._planned, takers)
            await self._handover.hand_over(due.assignments)
            handed = {assignment.run.id for assignment in due.assignments}
            left = {run.group for run in due.runs if not (run.is_over or run.is_queued or run.id in handed)}
            left |= {run.group for run in due.runs if run.total > 1}  # of which some shards may have found no room
            self._handover.know_left(left)
        self._wait = due.wait
        if left:
            self._wakeup.ring("dispatcher")
        if any(run.is_queued for run in due.runs):
            self._wakeup.ring("starter")
        return {"jobs": due.jobs, "runs": len(due.runs)}

    def _planned(self, job: Job, now: datetime, active: Active) -> Planned:
        executors = 0 if job.definition.shards else self._alive.count(job.definition.group)
        return plan(job, now, active, executors=executors, new_id=self._new_run_id)

    def pause_seconds(self) -> float:
        return PERIOD_SECONDS if self._wait is None else min(PERIOD_SECONDS, self._wait.total_seconds())
