"""Runs: read, watch, cancel, retry, rerun."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from admin.domain.errors import RunEnded, UnknownRun
from admin.domain.job import Job, Overlap
from admin.domain.names import Attempt, ExecutorId, JobName, RunId
from admin.domain.overlap import REPLACED, Active
from admin.domain.plan import Order, run_of
from admin.domain.run import ACTIVE, Cause, Run, RunState, on_cancel
from admin.domain.shard import Shard
from admin.domain.trigger import delay_of
from admin.operations.fleet import Fleet
from admin.operations.jobs import check_runs
from admin.operations.keys import checked_key
from admin.operations.paging import Page, page_of
from admin.ports import Clock, Dispatch, RunLogs, RunStore, Wakeup

WATCH_SECONDS = 1.0  # a watcher looks again: bells of runs ring in one admin alone, the run may change in another


@dataclass(frozen=True, slots=True)
class Runs:
    """What can be done to runs."""

    runs: RunStore
    fleet: Fleet
    dispatch: Dispatch
    wakeup: Wakeup
    clock: Clock
    new_run_id: Callable[[], RunId]

    async def get(self, run_id: RunId) -> Run:
        """Raises UnknownRun."""
        return self.fleet.alive().explained(await self.runs.get(run_id))

    async def list(self, *, job: JobName | None, state: RunState | None, before: str | None, size: int) -> Page[Run]:
        """Newest first."""
        found = await self.runs.list(job=job, state=state, before=RunId(before) if before else None, limit=size + 1)
        alive = self.fleet.alive()
        return page_of([alive.explained(run) for run in found], size, lambda run: run.id)

    async def list_shards(self, run_id: RunId) -> Sequence[Shard]:
        """By index. Raises UnknownRun."""
        return await self.runs.list_shards(run_id)

    async def watch(self, run_id: RunId) -> AsyncIterator[Run]:
        """The run now and at each change, until it has ended. Raises UnknownRun."""
        last: Run | None = None
        with self.wakeup.listen(bell_of(run_id)) as bell:
            while last is None or last.state in ACTIVE:
                run = await self.get(run_id)
                if run != last:
                    yield run
                last = run
                if run.state in ACTIVE:
                    await bell.wait(WATCH_SECONDS)

    async def cancel(self, run_id: RunId) -> Run:
        """Waiting shards end at once, held ones when their holder reports or falls silent.

        Raises UnknownRun, RunEnded.
        """
        return await self._stop(run_id, "cancelled on request")

    async def replace(self, run_id: RunId) -> None:
        """Stops a run in whose place a later one waits; one that has ended meanwhile is as well."""
        with suppress(RunEnded, UnknownRun):
            await self._stop(run_id, REPLACED)

    async def _stop(self, run_id: RunId, reason: str) -> Run:
        run, held = await self.runs.cancel(run_id, on_cancel, reason)
        by_holder: defaultdict[ExecutorId, list[Attempt]] = defaultdict(list)
        for shard in held:
            if shard.holder is not None:
                by_holder[shard.holder].append(shard.current)
        for holder, attempts in by_holder.items():
            self.dispatch.cancel(holder, attempts, run.reason)
        ring_for(self.wakeup, [run])
        return run

    async def retry(self, run_id: RunId) -> Run:
        """The failed and lost shards go on behind their cursors. Raises UnknownRun, NothingToRetry."""
        run = await self.runs.add_attempts(run_id)
        self.wakeup.ring("dispatcher")
        self.wakeup.ring(bell_of(run_id))
        return run

    async def rerun(self, run_id: RunId, key: str | None) -> Run:
        """A new run of the job with the same parameters, from the start. The same key gives the same run.

        Raises UnknownRun, UnknownJob, JobPaused, InvalidArgument, InvalidParams.
        """
        new_id, alive = self.new_run_id(), self.fleet.alive()
        old = await self.runs.get(run_id)
        run_key = new_id if checked_key(key) is None else f"{old.id}/{key}"

        def made(job: Job, now: datetime, active: Active) -> Run:
            check_runs(job)
            alive.check_params(job.definition.group, job.definition.handler, old.params)
            order = Order(new_id, Cause.RERUN, run_key, now, params=old.params, total=old.total)
            return run_of(job, order, now, active, executors=old.total)

        run = await self.runs.add(old.job, Cause.RERUN, run_key, made)
        self.wakeup.ring("starter" if run.is_queued else "dispatcher")
        return run

    async def tally(self) -> Mapping[RunState, int]:
        """How many runs that have not ended are in which state."""
        return await self.runs.get_tally()


@dataclass(frozen=True, slots=True)
class RunRetention:
    """How long runs stay that have ended, and how many of them. Has its turn in the pruner."""

    runs: RunStore
    logs: RunLogs
    keep: timedelta
    most: int
    name: str = "runs"

    async def prune(self, now: datetime, limit: int) -> int:
        """Forgets what is too old or too much, with its logs; how many runs, at most `limit`. What "now" is, is the
        store's to say.
        """
        gone = await self.runs.prune(self.keep, self.most, limit)
        while await self.logs.cancel(gone, limit) == limit:
            pass
        return len(gone)


def ring_for(wakeup: Wakeup, moved: Sequence[Run]) -> None:
    """Wakes who waits for runs that are not as they were: watchers, and what may follow on an end."""
    for run in moved:
        wakeup.ring(bell_of(run.id))
    if any(run.is_over and run.definition.overlap in (Overlap.QUEUE, Overlap.REPLACE) for run in moved):
        wakeup.ring("starter")
    if any(run.is_over and delay_of(run.definition.trigger) is not None for run in moved):
        wakeup.ring("planner")


def bell_of(run_id: RunId) -> str:
    """The bell that rings when the run changes."""
    return f"run/{run_id}"
