"""What the stores in memory share; one event loop owns it, so no method waits in the middle."""

from __future__ import annotations

from collections import Counter, defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING

from admin.domain.errors import UnknownJob, UnknownRun, VersionConflict
from admin.domain.overlap import Active
from admin.domain.plan import fire_behind_end
from admin.domain.run import Cause, settled, shards_of
from admin.domain.shard import step
from admin.domain.trigger import delay_of
from admin.ports import Changed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from admin.domain.job import Job
    from admin.domain.names import JobId, JobName, RunId, ShardKey
    from admin.domain.run import Run
    from admin.domain.shard import Shard
    from admin.ports import Change, Clock


class Books:
    """Jobs, runs and shards by their names, and the clock that says what "now" is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now = clock()  # of the transaction that is under way
        self.jobs: dict[JobName, Job] = {}
        self.numbers = 0  # given to jobs and definitions
        self.runs: dict[RunId, Run] = {}
        self.keys: dict[tuple[JobId, Cause, str], RunId] = {}
        self.shards: dict[ShardKey, Shard] = {}
        self.pins: defaultdict[RunId, dict[str, str]] = defaultdict(dict)

    def begin(self) -> datetime:
        """A method is one transaction, and sees one instant."""
        now = self._clock()
        self.now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return self.now

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def job(self, name: JobName, expected: int | None = None) -> Job:
        if (job := self.jobs.get(name)) is None:
            raise UnknownJob(name=name)
        if expected is not None and job.version != expected:
            raise VersionConflict(name=name, current=job.version, expected=expected)
        return job

    def active_runs(self, job_id: JobId) -> list[Run]:
        return [run for run in self.runs.values() if run.job_id == job_id and not run.is_over]

    def active(self, job_id: JobId) -> Active:
        """How many runs of the job have not ended."""
        active = Active()
        for run in self.active_runs(job_id):
            active = active.behind(run)
        return active

    def run(self, run_id: RunId) -> Run:
        if (run := self.runs.get(run_id)) is None:
            raise UnknownRun(run_id=run_id)
        return run

    def shards_of(self, run_id: RunId) -> list[Shard]:
        found = (shard for shard in self.shards.values() if shard.run_id == run_id)
        return sorted(found, key=attrgetter("index"))

    def add_run(self, run: Run) -> None:
        self.runs[run.id] = run
        self.keys[run.job_id, run.cause, run.key] = run.id
        self.keep(shards_of(run, run.fire_at if run.is_queued else self.now))

    def keep(self, shards: Iterable[Shard]) -> None:
        self.shards.update((shard.key, shard) for shard in shards)

    def end_unbegun(self, run: Run) -> None:
        """A queued run that has ended: its shards follow it."""
        self.runs[run.id] = run
        self.keep(shards_of(run, self.now))
        self._lead_on(run)

    def settle(self, run_ids: Collection[RunId]) -> list[Run]:
        """Keeps the runs as their shards say; gives those that are not as they were."""
        before = [self.runs[run_id] for run_id in run_ids]
        now = self.now
        after = [settled(run, Counter(shard.state for shard in self.shards_of(run.id)), now) for run in before]
        self.runs.update((run.id, run) for run in after)
        moved = [new for old, new in zip(before, after, strict=True) if new != old]
        for run in moved:
            if run.is_over:
                self._lead_on(run)
        return moved

    def change(self, changes: Sequence[Change]) -> Changed:
        now = self.now
        seen: list[tuple[Shard, Run] | None] = []
        steps: list[bool] = []
        moved: set[RunId] = set()
        for key, decide in changes:
            shard = self.shards.get(key)
            if shard is None or self.runs[shard.run_id].is_queued:
                seen.append(None)
                steps.append(False)
                continue
            run = self.runs[shard.run_id]
            event = decide(shard, run, now)
            seen.append((shard, run))
            steps.append(event is not None)
            if event is not None:
                self.keep([new := step(shard, event)])
                if new.state is not shard.state:
                    moved.add(shard.run_id)
        return Changed(seen, self.settle(moved), steps)

    def awaits_end(self, job: Job) -> bool:
        """Whether the run of the job's last fire, one with a fixed delay, has not ended."""
        return any(_leads_on(run) and run.fire_at == job.last_fire_at for run in self.active_runs(job.id))

    def _lead_on(self, run: Run) -> None:
        """The end of a fire's run leads to the next fire, with a fixed delay."""
        job = next((job for job in self.jobs.values() if job.id == run.job_id), None)
        if job is not None and _leads_on(run):
            self.jobs[job.name] = job._replace(next_fire_at=fire_behind_end(job, run, self.now))


def _leads_on(run: Run) -> bool:
    return run.cause is Cause.FIRE and delay_of(run.definition.trigger) is not None
