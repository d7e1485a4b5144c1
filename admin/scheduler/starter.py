"""Gives queued runs their turn, and stops those in whose place others wait."""

from collections.abc import Awaitable, Callable

from admin.domain.names import RunId
from admin.operations.runs import bell_of
from admin.ports import Clock, RunStore, Wakeup
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 1.0
JOBS_A_ROUND = 500


class Starter(Loop):
    """Whether a run starts is decided under the lock of its job's row."""

    name = "starter"

    def __init__(
        self, runs: RunStore, replace: Callable[[RunId], Awaitable[None]], wakeup: Wakeup, clock: Clock
    ) -> None:
        super().__init__(wakeup, clock)
        self._runs = runs
        self._replace = replace

    async def run_once(self) -> Counts:
        turned = await self._runs.claim_queued(JOBS_A_ROUND)
        for run in turned.stop:
            await self._replace(run.id)
        for run in (*turned.started, *turned.ended):
            self._wakeup.ring(bell_of(run.id))
        if turned.started:
            self._wakeup.ring("dispatcher")
        return {"started": len(turned.started), "skipped": len(turned.ended), "stopped": len(turned.stop)}

    def pause_seconds(self) -> float:
        return PERIOD_SECONDS
