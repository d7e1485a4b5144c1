"""Runs in memory."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING

from admin.domain.errors import NothingToRetry, RunEnded
from admin.domain.overlap import REPLACED, turn
from admin.domain.plan import is_doubtful, without
from admin.domain.routing import Assignment, Waiting
from admin.domain.run import RunState, assigned, ended_unbegun, settled, shards_of
from admin.domain.shard import HELD, Reopened, ShardState, step
from admin.ports import Change, Changed, Due, Turned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from admin.domain.job import Job
    from admin.domain.names import Attempt, ExecutorId, JobName, RunId, ShardKey
    from admin.domain.plan import Planned
    from admin.domain.run import Cause, Run
    from admin.domain.shard import Counters, Shard
    from admin.ports import Decide, Make, Plan, Takers
    from admin.store.memory.books import Books

_FAILED = (ShardState.FAILED, ShardState.LOST)


class MemoryRuns:
    """Implements RunStore."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def add(self, job: JobName, cause: Cause, key: str, make: Make) -> Run:
        books = self._books
        current = books.job(job)
        if (known := books.keys.get((current.id, cause, key))) is not None:
            return books.runs[known]
        run = make(current, books.begin(), books.active(current.id))
        books.add_run(run)
        return run

    async def claim_due(self, limit: int, plan: Plan, takers: Takers | None) -> Due:
        books, now = self._books, self._books.begin()
        fires = [(job.next_due_at, job) for job in books.jobs.values() if job.next_due_at is not None]
        due = [job for at, job in sorted(fires, key=lambda fire: fire[0]) if at <= now][:limit]
        planned = [self._planned(job, plan(job, now, books.active(job.id))) for job in due]  # before anything is kept
        books.jobs.update((each.job.name, each.job) for each in planned)
        new = [run for each in planned for run in each.runs]
        for run in new:
            books.add_run(run)
        ids = {run.id for run in new}
        fresh = [shard for shard in self._waiting(takers) if shard.run_id in ids] if takers else []
        assignments = self._leased(takers, fresh) if takers else []
        left = [job.next_due_at for job in books.jobs.values() if job.next_due_at is not None]
        wait = max(timedelta(), min(left) - now) if left else None
        return Due(len(due), [books.runs[run.id] for run in new], assignments, wait)

    def _planned(self, job: Job, planned: Planned) -> Planned:
        doubtful = [run for run in planned.runs if is_doubtful(job, run)]
        return without(planned, {run.id for run in doubtful if (run.job_id, run.cause, run.key) in self._books.keys})

    async def claim_queued(self, limit: int) -> Turned:
        books, now = self._books, self._books.begin()
        ids = list(dict.fromkeys(run.job_id for run in books.runs.values() if run.is_queued))[:limit]
        turns = [turn(books.active_runs(job_id)) for job_id in ids]
        started = [run._replace(is_queued=False) for each in turns for run in each.start]
        for run in started:
            books.runs[run.id] = run
            books.keep(shards_of(run, now))
        ended = [ended_unbegun(run, RunState.SKIPPED, REPLACED, now) for each in turns for run in each.skip]
        for run in ended:
            books.end_unbegun(run)
        return Turned(started, ended, [run for each in turns for run in each.stop])

    async def claim_waiting(self, takers: Takers) -> Sequence[Assignment]:
        self._books.begin()
        waiting = self._waiting(takers)
        wanted: list[Shard] = []
        for group, offer in takers.offers.items():
            wanted += [shard for shard in waiting if self._books.runs[shard.run_id].group == group][: offer.slots]
        return self._leased(takers, wanted)

    def _leased(self, takers: Takers, waiting: Sequence[Shard]) -> list[Assignment]:
        books = self._books
        choices = takers.choose([self._as_waiting(shard) for shard in waiting]) if waiting else []
        leased = [
            step(shard, assigned(books.runs[shard.run_id], holder, name, takers.lease, books.now))
            for shard, holder, name in ((books.shards[key], holder, name) for key, holder, name in choices)
        ]
        books.keep(leased)
        books.settle({shard.run_id for shard in leased})
        return [Assignment(shard, books.runs[shard.run_id], dict(books.pins[shard.run_id])) for shard in leased]

    def _waiting(self, takers: Takers) -> list[Shard]:
        """Those that are due and offered for, in the order in which they are due."""
        books, now = self._books, self._books.now
        found = [
            shard
            for shard in books.shards.values()
            if shard.state is ShardState.WAITING and shard.due_at <= now and self._is_offered(shard, takers)
        ]
        return sorted(found, key=attrgetter("due_at", "run_id", "index"))

    def _is_offered(self, shard: Shard, takers: Takers) -> bool:
        run = self._books.runs[shard.run_id]
        offer = takers.offers.get(run.group)
        return offer is not None and run.handler in offer.handlers and not run.is_queued

    def _as_waiting(self, shard: Shard) -> Waiting:
        run = self._books.runs[shard.run_id]
        return Waiting(shard.key, run.group, run.handler)

    async def claim_lapsed(self, limit: int, decide: Decide) -> Changed:
        now = self._books.begin()
        leases = [(shard.leased_until_at, shard.key) for shard in self._books.shards.values() if shard.leased_until_at]
        lapsed = sorted((until_at, key) for until_at, key in leases if until_at <= now)
        return self._books.change([Change(key, decide) for _, key in lapsed[:limit]])

    async def finish(self, changes: Sequence[Change]) -> Changed:
        self._books.begin()
        return self._books.change(changes)

    async def extend(self, lease: timedelta) -> int:
        until_at = self._books.begin() + lease
        held = (shard for shard in self._books.shards.values() if shard.leased_until_at is not None)
        extended = [shard._replace(leased_until_at=until_at) for shard in held]
        self._books.keep(extended)
        return len(extended)

    async def cancel(self, run_id: RunId, decide: Decide, reason: str) -> tuple[Run, Sequence[Shard]]:
        books, now = self._books, self._books.begin()
        run = books.run(run_id)
        if run.is_over:
            raise RunEnded(run_id=run_id, state=run.state)
        run = run._replace(cancelled_at=run.cancelled_at or now, reason=reason)
        if run.is_queued:
            books.end_unbegun(ended_unbegun(run, RunState.CANCELLED, reason, now))
            return books.run(run_id), []
        books.runs[run_id] = run
        shards = books.shards_of(run_id)
        books.change([Change(shard.key, decide) for shard in shards])
        return books.run(run_id), [shard for shard in shards if shard.state in HELD]

    async def add_attempts(self, run_id: RunId) -> Run:
        books, now = self._books, self._books.begin()
        run, shards = books.run(run_id), books.shards_of(run_id)
        if not any(shard.state in _FAILED for shard in shards) or (run.is_cancelling and not run.is_over):
            raise NothingToRetry(run_id=run_id)
        opened = [step(shard, Reopened(now)) if shard.state in _FAILED else shard for shard in shards]
        books.keep(opened)
        run = run._replace(cancelled_at=None, reason="")
        books.runs[run_id] = settled(run, Counter(shard.state for shard in opened), now)
        return books.runs[run_id]

    async def add_progress(self, holder: ExecutorId, progress: Mapping[Attempt, Counters]) -> None:
        for attempt, counters in progress.items():
            if self._is_held(attempt, holder):
                self._books.keep([self._books.shards[attempt.shard]._replace(counters=counters)])

    async def add_pin(self, attempt: Attempt, holder: ExecutorId, name: str, value: str) -> str | None:
        if not self._is_held(attempt, holder):
            return None
        return self._books.pins[attempt.run_id].setdefault(name, value)

    def _is_held(self, attempt: Attempt, holder: ExecutorId) -> bool:
        shard = self._books.shards.get(attempt.shard)
        return shard is not None and shard.state in HELD and shard.current == attempt and shard.holder == holder

    async def get(self, run_id: RunId) -> Run:
        return self._books.run(run_id)

    async def list(
        self, *, job: JobName | None, state: RunState | None, before: RunId | None, limit: int
    ) -> Sequence[Run]:
        newest_first = sorted(self._books.runs.values(), key=attrgetter("id"), reverse=True)
        fitting = (
            run
            for run in newest_first
            if job in (None, run.job) and state in (None, run.state) and (before is None or run.id < before)
        )
        return [run for run, _ in zip(fitting, range(limit), strict=False)]

    async def list_shards(self, run_id: RunId) -> Sequence[Shard]:
        self._books.run(run_id)
        return self._books.shards_of(run_id)

    async def get_tally(self) -> Mapping[RunState, int]:
        return Counter(run.state for run in self._books.runs.values() if not run.is_over)

    async def prune(self, keep: timedelta, most: int, limit: int) -> Sequence[RunId]:
        books, before = self._books, self._books.begin() - keep
        ended = sorted((run for run in books.runs.values() if run.is_over), key=attrgetter("id"), reverse=True)
        old = [run for rank, run in enumerate(ended) if rank >= most or (run.ended_at and run.ended_at < before)]
        gone = old[::-1][:limit]
        for run in gone:
            self._forget(run)
        return [run.id for run in gone]

    def _forget(self, run: Run) -> None:
        keys: list[ShardKey] = [shard.key for shard in self._books.shards_of(run.id)]
        for key in keys:
            del self._books.shards[key]
        self._books.pins.pop(run.id, None)
        del self._books.keys[run.job_id, run.cause, run.key]
        del self._books.runs[run.id]
