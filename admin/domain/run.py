"""One occurrence of a job: how its state follows from its shards, and how each report, lapse or order moves a shard."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from admin.domain.names import Attempt, ExecutorId, Group, HandlerName, JobName, RunId
from admin.domain.retry import RetryPolicy, pause_before_retry
from admin.domain.shard import (
    HELD,
    OPEN,
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

MAX_LOSSES = 100
"""Holders of one shard that may fall silent; they cost no attempt, so that killed executors do not fail a job that has
one, but a shard that kills whoever holds it must come to an end."""

REFUSAL_PAUSE = timedelta(milliseconds=500)  # before a refused shard is offered again


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


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its frozen copy of the job; unique by job, cause and key."""

    id: RunId
    job: JobName
    group: Group
    handler: HandlerName
    state: RunState
    cause: Cause
    key: str  # the nominal fire time in milliseconds, the idempotency key, or the run's own id
    fire_at: datetime
    total: int
    params: str  # a JSON object
    retry: RetryPolicy
    timeout: timedelta | None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancelled_at: datetime | None = None  # when somebody asked to stop it
    reason: str = ""

    @property
    def is_cancelling(self) -> bool:
        return self.cancelled_at is not None


class OutcomeState(enum.StrEnum):
    """What an executor says about an attempt that is over."""

    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()
    SKIPPED = enum.auto()
    FENCED = enum.auto()
    RELEASED = enum.auto()


@dataclass(frozen=True, slots=True)
class Outcome:
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


def state_of(tally: Mapping[ShardState, int]) -> RunState:
    """The state of a run whose shards stand like this."""
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
        return replace(run, state=RunState.RUNNING, started_at=run.started_at or now, ended_at=None)
    return replace(run, state=state, ended_at=run.ended_at or now, reason=_reason(run, state, tally))


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
            return _on_loss(shard, now, is_reported=True, counters=outcome.counters)
        case OutcomeState.FENCED:
            return HandedBack(now, now, True, least_term=outcome.broker_term, counters=outcome.counters)
        case OutcomeState.RELEASED:
            return HandedBack(now, now, True, counters=outcome.counters)


def _on_failure(shard: Shard, outcome: Outcome, policy: RetryPolicy, now: datetime) -> Event:
    fault = outcome.fault or Fault("failed", "")
    if not outcome.is_retryable or shard.attempt >= policy.attempts:
        return Ended(now, Move.FAIL, True, fault=fault, counters=outcome.counters)
    pause = outcome.retry_after or pause_before_retry(policy, shard.attempt)
    return Retried(now, now + pause, fault, outcome.counters)


def on_beat(
    shard: Shard, holder: ExecutorId, attempt: Attempt, leased_until_at: datetime, now: datetime
) -> Event | None:
    """What a sign of life does; None where the attempt is not (any more) held by this executor."""
    if shard.state not in HELD or shard.term != attempt.term or shard.holder != holder:
        return None
    return Beaten(now, leased_until_at)


def on_refusal(shard: Shard, holder: ExecutorId, attempt: Attempt, run: Run, now: datetime) -> Event | None:
    """What it does when an executor will not take the shard."""
    if shard.state not in HELD or shard.term != attempt.term or shard.holder != holder:
        return None
    if run.is_cancelling:
        return Ended(now, Move.CANCEL, True)
    return HandedBack(now, now + REFUSAL_PAUSE, True)


def on_lapse(shard: Shard, run: Run, now: datetime) -> Event | None:
    """What it does when the holder fell silent; None while the lease lasts."""
    if shard.state not in HELD or shard.leased_until_at is None or shard.leased_until_at > now:
        return None
    return Ended(now, Move.CANCEL, False) if run.is_cancelling else _on_loss(shard, now, is_reported=False)


def _on_loss(shard: Shard, now: datetime, *, is_reported: bool, counters: Counters | None = None) -> Event:
    if shard.losses + 1 >= MAX_LOSSES:
        fault = Fault("holders_lost", f"{MAX_LOSSES} executors fell silent while they held this shard")
        return Ended(now, Move.LOSE, is_reported, fault=fault, counters=counters)
    return HandedBack(now, now, is_reported, is_loss=True, counters=counters)


def on_cancel(shard: Shard, now: datetime) -> Event | None:
    """What an order to stop does at once; a held shard goes on until its holder reports or falls silent."""
    return Ended(now, Move.CANCEL, False) if shard.state is ShardState.WAITING else None
