"""The stores in memory: for tests and trials, with the same behaviour as SQL but for outliving the process."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from admin.domain.errors import (
    JobActive,
    JobExists,
    NothingToRetry,
    RunEnded,
    UnknownJob,
    UnknownRun,
    UnknownToken,
    VersionConflict,
)
from admin.domain.job import Job
from admin.domain.plan import shards_of
from admin.domain.routing import Assignment, Waiting
from admin.domain.run import ACTIVE, settled
from admin.domain.shard import HELD, Assigned, Reopened, ShardState, step
from admin.ports import Change, Changed, Due

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from admin.domain.job import JobDefinition
    from admin.domain.names import Attempt, ExecutorId, Group, JobName, RunId, ShardKey, TokenId
    from admin.domain.run import Cause, Run, RunState
    from admin.domain.shard import Counters, Shard
    from admin.ports import Choose, Decide, Make, Offer, Plan, Token


class Books:
    """What the stores in memory share; one event loop owns it, so no method waits in the middle."""

    def __init__(self) -> None:
        self.jobs: dict[JobName, Job] = {}
        self.runs: dict[RunId, Run] = {}
        self.keys: dict[tuple[JobName, Cause, str], RunId] = {}
        self.shards: dict[ShardKey, Shard] = {}
        self.pins: defaultdict[RunId, dict[str, str]] = defaultdict(dict)

    def job(self, name: JobName, expected: int | None = None) -> Job:
        if (job := self.jobs.get(name)) is None:
            raise UnknownJob(name=name)
        if expected is not None and job.version != expected:
            raise VersionConflict(name=name, current=job.version, expected=expected)
        return job

    def is_active(self, name: JobName) -> bool:
        return any(run.job == name and run.state in ACTIVE for run in self.runs.values())

    def run(self, run_id: RunId) -> Run:
        if (run := self.runs.get(run_id)) is None:
            raise UnknownRun(run_id=run_id)
        return run

    def shards_of(self, run_id: RunId) -> list[Shard]:
        found = (shard for shard in self.shards.values() if shard.run_id == run_id)
        return sorted(found, key=attrgetter("index"))

    def add_run(self, run: Run, now: datetime) -> None:
        self.runs[run.id] = run
        self.keys[run.job, run.cause, run.key] = run.id
        self.keep(shards_of(run, now))

    def keep(self, shards: Collection[Shard]) -> None:
        self.shards.update((shard.key, shard) for shard in shards)

    def settle(self, run_ids: Collection[RunId], now: datetime) -> list[Run]:
        before = [self.runs[run_id] for run_id in run_ids]
        after = [settled(run, Counter(shard.state for shard in self.shards_of(run.id)), now) for run in before]
        self.runs.update((run.id, run) for run in after)
        return [new for old, new in zip(before, after, strict=True) if new != old]

    def change(self, changes: Sequence[Change], now: datetime) -> Changed:
        seen: list[Shard | None] = []
        moved: set[RunId] = set()
        for item in changes:
            shard = self.shards.get(item.key)
            seen.append(shard)
            event = item.decide(shard, self.runs[shard.run_id]) if shard else None
            if shard and event:
                self.keep([new := step(shard, event)])
                if new.state is not shard.state:
                    moved.add(shard.run_id)
        return Changed(seen, self.settle(moved, now))


class MemoryJobs:
    """Implements JobStore."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def add(self, definition: JobDefinition, now: datetime, next_fire_at: datetime | None) -> Job:
        if definition.name in self._books.jobs:
            raise JobExists(name=definition.name)
        job = Job(definition, False, 1, now, now, next_fire_at)
        self._books.jobs[job.name] = job
        return job

    async def add_version(self, name: JobName, edit: Callable[[Job], Job], expected: int | None) -> Job:
        current = self._books.job(name, expected)
        job = replace(edit(current), version=current.version + 1)
        self._books.jobs[name] = job
        return job

    async def get(self, name: JobName) -> Job:
        return self._books.job(name)

    async def list(self, *, group: Group | None, after: JobName | None, limit: int) -> Sequence[Job]:
        found = sorted(self._books.jobs.values(), key=attrgetter("name"))
        fitting = (job for job in found if group in (None, job.definition.group) and job.name > (after or ""))
        return [job for job, _ in zip(fitting, range(limit), strict=False)]

    async def cancel(self, name: JobName, expected: int | None) -> None:
        self._books.job(name, expected)
        if self._books.is_active(name):
            raise JobActive(name=name)
        del self._books.jobs[name]


class MemoryRuns:
    """Implements RunStore."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def add(self, job: JobName, cause: Cause, key: str, make: Make, now: datetime) -> Run:
        if (known := self._books.keys.get((job, cause, key))) is not None:
            return self._books.runs[known]
        run = make(self._books.job(job), self._books.is_active(job))
        self._books.add_run(run, now)
        return run

    async def claim_due(self, now: datetime, limit: int, plan: Plan) -> Due:
        fires = [(job.next_fire_at, job) for job in self._books.jobs.values() if job.next_fire_at and not job.is_paused]
        due = [job for at, job in sorted(fires, key=lambda fire: fire[0]) if at <= now][:limit]
        new: list[Run] = []
        for job in due:
            planned = plan(job, self._books.is_active(job.name))
            self._books.jobs[job.name] = replace(job, next_fire_at=planned.next_fire_at)
            new += [run for run in planned.runs if (run.job, run.cause, run.key) not in self._books.keys]
        for run in new:
            self._books.add_run(run, now)
        left = [job.next_fire_at for job in self._books.jobs.values() if job.next_fire_at and not job.is_paused]
        return Due(len(due), new, min(left, default=None))

    async def claim_waiting(
        self, now: datetime, leased_until_at: datetime, offers: Mapping[Group, Offer], choose: Choose
    ) -> Sequence[Assignment]:
        waiting = [shard for group, offer in offers.items() for shard in self._waiting(group, offer, now)]
        choices = choose([self._as_waiting(shard) for shard in waiting]) if waiting else []
        leased = [
            step(self._books.shards[choice.key], Assigned(now, choice.executor_id, choice.name, leased_until_at))
            for choice in choices
        ]
        self._books.keep(leased)
        owners = {shard.run_id: self._books.runs[shard.run_id] for shard in leased}
        self._books.settle(owners, now)
        return [Assignment(shard, owners[shard.run_id], dict(self._books.pins[shard.run_id])) for shard in leased]

    def _waiting(self, group: Group, offer: Offer, now: datetime) -> list[Shard]:
        found = [
            shard
            for shard in self._books.shards.values()
            if shard.state is ShardState.WAITING
            and shard.due_at <= now
            and self._books.runs[shard.run_id].group == group
            and self._books.runs[shard.run_id].handler in offer.handlers
        ]
        return sorted(found, key=attrgetter("due_at", "run_id", "index"))[: offer.slots]

    def _as_waiting(self, shard: Shard) -> Waiting:
        run = self._books.runs[shard.run_id]
        return Waiting(shard.key, run.group, run.handler)

    async def claim_lapsed(self, now: datetime, limit: int, decide: Decide) -> Changed:
        held = (shard for shard in self._books.shards.values() if shard.state in HELD)
        lapsed = [shard.key for shard in held if shard.leased_until_at is not None and shard.leased_until_at <= now]
        return self._books.change([Change(key, decide) for key in lapsed[:limit]], now)

    async def finish(self, changes: Sequence[Change], now: datetime) -> Changed:
        return self._books.change(changes, now)

    async def extend(self, until_at: datetime) -> int:
        held = (shard for shard in self._books.shards.values() if shard.state in HELD)
        extended = [replace(shard, leased_until_at=until_at) for shard in held]
        self._books.keep(extended)
        return len(extended)

    async def cancel(self, run_id: RunId, decide: Decide, now: datetime) -> tuple[Run, Sequence[Shard]]:
        run = self._books.run(run_id)
        if run.state not in ACTIVE:
            raise RunEnded(run_id=run_id, state=run.state)
        self._books.runs[run_id] = replace(run, cancelled_at=run.cancelled_at or now, reason="cancelled on request")
        shards = self._books.shards_of(run_id)
        self._books.change([Change(shard.key, decide) for shard in shards], now)
        return self._books.run(run_id), [shard for shard in shards if shard.state in HELD]

    async def add_attempts(self, run_id: RunId, now: datetime) -> Run:
        run = self._books.run(run_id)
        failed = [
            shard for shard in self._books.shards_of(run_id) if shard.state in (ShardState.FAILED, ShardState.LOST)
        ]
        if not failed:
            raise NothingToRetry(run_id=run_id)
        self._books.keep([step(shard, Reopened(now)) for shard in failed])
        self._books.runs[run_id] = replace(run, cancelled_at=None, reason="")
        self._books.settle([run_id], now)
        return self._books.run(run_id)

    async def add_progress(self, holder: ExecutorId, progress: Mapping[Attempt, Counters]) -> None:
        for attempt, counters in progress.items():
            shard = self._books.shards.get(attempt.shard)
            if shard is not None and shard.current == attempt and shard.state in HELD and shard.holder == holder:
                self._books.keep([replace(shard, counters=counters)])

    async def add_pin(self, attempt: Attempt, holder: ExecutorId, name: str, value: str) -> str | None:
        shard = self._books.shards.get(attempt.shard)
        if shard is None or shard.state not in HELD or shard.current != attempt or shard.holder != holder:
            return None
        return self._books.pins[attempt.run_id].setdefault(name, value)

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
        return Counter(run.state for run in self._books.runs.values())


class MemoryTokens:
    """Implements TokenStore."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Token] = {}

    async def add(self, digests: Mapping[str, Token]) -> None:
        self._by_digest.update(digests)

    async def get(self, digest: str) -> Token | None:
        return self._by_digest.get(digest)

    async def list(self) -> Sequence[Token]:
        return sorted(self._by_digest.values(), key=attrgetter("id"))

    async def cancel(self, token_id: TokenId) -> None:
        kept = {digest: token for digest, token in self._by_digest.items() if token.id != token_id}
        if len(kept) == len(self._by_digest):
            raise UnknownToken(token_id=token_id)
        self._by_digest = kept
