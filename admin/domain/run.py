"""One occurrence of a job: how its state follows from its shards, and how each report, lapse or order moves a shard."""

import enum
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from admin.domain.job import JobDefinition
from admin.domain.names import Attempt, DefinitionId, ExecutorId, Group, HandlerName, JobId, JobName, RunId
from admin.domain.retry import RetryPolicy, pause_before_retry
from admin.domain.shard import (
    HELD,
    OPEN,
    Assigned,
    Beaten,
    Counters,
    Ended,
    Event,
    Fault,
    HandedBack,
    Move,
    Retried,
    Shard,
    ShardState,
)

REFUSAL_PAUSE = timedelta(milliseconds=500)  # before a refused shard is offered again
_MS = timedelta(milliseconds=1)  # what instants are kept in
OVERTIME = timedelta(seconds=30)  # behind its timeout an attempt has so long to stop and say so, then it is taken away


MAX_LEAP = 1_000_000  # terms that a broker may be ahead; nobody who makes one up spends them all


class RunState(enum.StrEnum):
    """Where a run stands."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()
    SKIPPED = enum.auto()


ACTIVE = frozenset({RunState.WAITING, RunState.RUNNING})


class Cause(enum.StrEnum):
    """Why a run exists."""

    FIRE = enum.auto()
    MANUAL = enum.auto()
    SUCCESSOR = enum.auto()
    BACKFILL = enum.auto()
    RERUN = enum.auto()


class Run(NamedTuple):
    """A run with its frozen copy of the job; unique by job, cause and key."""

    id: RunId
    job_id: JobId
    definition_id: DefinitionId
    definition: JobDefinition
    state: RunState
    cause: Cause
    key: str  # the nominal fire time in milliseconds, the idempotency key, or the run's own id
    fire_at: datetime
    total: int
    params: str  # a JSON object
    is_queued: bool = False  # waits until older runs of its job have ended; it has no shards to be assigned yet
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancelled_at: datetime | None = None  # when somebody asked to stop it
    reason: str = ""

    @property
    def job(self) -> JobName:
        return self.definition.name

    @property
    def group(self) -> Group:
        return self.definition.group

    @property
    def handler(self) -> HandlerName:
        return self.definition.handler

    @property
    def retry(self) -> RetryPolicy:
        return self.definition.retry

    @property
    def timeout(self) -> timedelta | None:
        return self.definition.timeout

    @property
    def is_cancelling(self) -> bool:
        return self.cancelled_at is not None

    @property
    def is_over(self) -> bool:
        return self.state not in ACTIVE


class OutcomeState(enum.StrEnum):
    """What an executor says about an attempt that is over."""

    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()
    SKIPPED = enum.auto()
    FENCED = enum.auto()
    RELEASED = enum.auto()


class Outcome(NamedTuple):
    """The report of an attempt."""

    attempt: Attempt
    state: OutcomeState
    counters: Counters
    result: str = ""
    fault: Fault | None = None
    is_retryable: bool = False
    retry_after: timedelta | None = None
    broker_term: int = 0


class Verdict(enum.StrEnum):
    """What the admin answers to a report."""

    ACCEPTED = enum.auto()
    SUPERSEDED = enum.auto()


def ended_unbegun(run: Run, state: RunState, reason: str, now: datetime) -> Run:
    """A run that ends before its turn came."""
    return run._replace(state=state, is_queued=False, reason=reason, ended_at=now)


def shards_of(run: Run, now: datetime) -> list[Shard]:
    """The shards a run has before any was assigned; they end with it where it ends before that."""
    state = ShardState(run.state) if run.is_over else ShardState.WAITING
    return [Shard(run.id, index, run.total, state, due_at=now, ended_at=run.ended_at) for index in range(run.total)]


_ALONE = {
    ShardState.WAITING: RunState.WAITING,
    ShardState.ASSIGNED: RunState.RUNNING,
    ShardState.RUNNING: RunState.RUNNING,
    ShardState.SUCCEEDED: RunState.SUCCEEDED,
    ShardState.FAILED: RunState.FAILED,
    ShardState.LOST: RunState.FAILED,
    ShardState.CANCELLED: RunState.CANCELLED,
    ShardState.SKIPPED: RunState.SKIPPED,
}
"""The state of a run whose shards are all in one state, as those of most runs are."""


def state_of(tally: Mapping[ShardState, int]) -> RunState:
    """The state of a run whose shards stand like this."""
    if len(tally) == 1:
        return _ALONE[next(iter(tally))]
    present = {state for state, count in tally.items() if count}
    if present <= {ShardState.WAITING}:
        return RunState.WAITING
    if present & OPEN:
        return RunState.RUNNING
    if present & {ShardState.FAILED, ShardState.LOST}:
        return RunState.FAILED
    if ShardState.CANCELLED in present:
        return RunState.CANCELLED
    return RunState.SUCCEEDED if ShardState.SUCCEEDED in present else RunState.SKIPPED


def settled(run: Run, tally: Mapping[ShardState, int], now: datetime) -> Run:
    """The run as its shards say; one that began stays running while its shards wait for another try."""
    state = state_of(tally)
    if state is RunState.WAITING and run.started_at is None:
        return run
    if state in ACTIVE:
        return run._replace(state=RunState.RUNNING, started_at=run.started_at or now, ended_at=None)
    return run._replace(state=state, ended_at=run.ended_at or now, reason=_reason(run, state, tally))


def _reason(run: Run, state: RunState, tally: Mapping[ShardState, int]) -> str:
    if state is RunState.SUCCEEDED:
        return ""
    if state is not RunState.FAILED:
        return run.reason
    counts = ((tally.get(shard, 0), shard) for shard in (ShardState.FAILED, ShardState.LOST))
    return " and ".join(f"{count} of {run.total} shards {state}" for count, state in counts if count)


def verdict(shard: Shard, attempt: Attempt) -> Verdict:
    """A term names one assignment, so a report under the current one, or one accepted before, is accepted."""
    is_current = shard.state in HELD and shard.term == attempt.term
    return Verdict.ACCEPTED if is_current or shard.reported_term == attempt.term else Verdict.SUPERSEDED


def on_outcome(shard: Shard, outcome: Outcome, run: Run, now: datetime) -> Event | None:
    """What a report does to its shard; None where it changes nothing (superseded, or said before)."""
    if shard.state not in HELD or shard.term != outcome.attempt.term:
        return None
    match outcome.state:
        case OutcomeState.SUCCEEDED:
            return Ended(now, Move.SUCCEED, True, counters=outcome.counters, result=outcome.result)
        case OutcomeState.SKIPPED:
            return Ended(now, Move.SKIP, True, fault=outcome.fault, counters=outcome.counters, result=outcome.result)
        case _ if run.is_cancelling:
            return Ended(now, Move.CANCEL, True, fault=outcome.fault, counters=outcome.counters)
        case OutcomeState.FAILED:
            return _on_failure(shard, outcome, run.retry, now)
        case (
            OutcomeState.CANCELLED
        ):  # nobody asked for it: the holder gave up, as when its lease lapsed on its own clock
            return _on_loss(shard, run, now, is_reported=True, counters=outcome.counters)
        case OutcomeState.FENCED:
            least_term = min(outcome.broker_term, shard.term + MAX_LEAP)
            return HandedBack(now, now, True, least_term=least_term, counters=outcome.counters)
        case OutcomeState.RELEASED:
            return HandedBack(now, now, True, counters=outcome.counters)


def _on_failure(shard: Shard, outcome: Outcome, policy: RetryPolicy, now: datetime) -> Event:
    fault = outcome.fault or Fault("failed", "")
    if not outcome.is_retryable or shard.attempt >= policy.attempts:
        return Ended(now, Move.FAIL, True, fault=fault, counters=outcome.counters)
    pause = outcome.retry_after or pause_before_retry(policy, shard.attempt, _chance(shard))
    return Retried(now, now + pause // _MS * _MS, True, fault, outcome.counters)


def _chance(shard: Shard) -> float:
    """From 0 up to 1, other for each attempt, and the same for everybody who asks."""
    return zlib.crc32(f"{shard.run_id}/{shard.index}/{shard.attempt}".encode()) / 2**32


def assigned(run: Run, holder: ExecutorId, name: str, lease: timedelta, now: datetime) -> Assigned:
    """The holder gets the shard for one lease; with a timeout never beyond its end."""
    deadline_at = None if run.timeout is None else now + run.timeout + OVERTIME
    return Assigned(now, holder, name, _until(now + lease, deadline_at), deadline_at)


def _until(lease_ends_at: datetime, deadline_at: datetime | None) -> datetime:
    return lease_ends_at if deadline_at is None else min(lease_ends_at, deadline_at)


def on_beat(shard: Shard, holder: ExecutorId, attempt: Attempt, lease: timedelta, now: datetime) -> Event | None:
    """What a sign of life does; None where the attempt is not (any more) held by this executor."""
    if shard.state not in HELD or shard.term != attempt.term or shard.holder != holder:
        return None
    return Beaten(now, _until(now + lease, shard.deadline_at))


def on_refusal(shard: Shard, holder: ExecutorId, attempt: Attempt, run: Run, now: datetime) -> Event | None:
    """What it does when an executor will not take the shard."""
    if shard.state not in HELD or shard.term != attempt.term or shard.holder != holder:
        return None
    if run.is_cancelling:
        return Ended(now, Move.CANCEL, True)
    return HandedBack(now, now + REFUSAL_PAUSE, True)


def on_lapse(shard: Shard, run: Run, now: datetime) -> Event | None:
    """What it does when the holder fell silent, or went on behind its timeout; None while the lease lasts."""
    if shard.state not in HELD or shard.leased_until_at is None or shard.leased_until_at > now:
        return None
    if run.is_cancelling:
        return Ended(now, Move.CANCEL, False)
    if shard.deadline_at is not None and shard.deadline_at <= now:
        return _on_overtime(shard, run, now)
    return _on_loss(shard, run, now, is_reported=False)


def _on_overtime(shard: Shard, run: Run, now: datetime) -> Event:
    """The executor should have ended the attempt itself, and has not."""
    fault = Fault("timed_out", f"the attempt went on for {OVERTIME.total_seconds():g} s behind its timeout")
    if shard.attempt >= run.retry.attempts:
        return Ended(now, Move.FAIL, False, fault=fault)
    return Retried(now, now + pause_before_retry(run.retry, shard.attempt, _chance(shard)), False, fault)


def _on_loss(shard: Shard, run: Run, now: datetime, *, is_reported: bool, counters: Counters | None = None) -> Event:
    most = run.retry.losses
    if shard.losses + 1 >= most:
        fault = Fault("holders_lost", f"{most} executors fell silent while they held this shard")
        return Ended(now, Move.LOSE, is_reported, fault=fault, counters=counters)
    return HandedBack(now, now, is_reported, is_loss=True, counters=counters)


def on_cancel(shard: Shard, _run: Run, now: datetime) -> Event | None:
    """What an order to stop does at once; a held shard goes on until its holder reports or falls silent."""
    return Ended(now, Move.CANCEL, False) if shard.state is ShardState.WAITING else None
