"""From due jobs and now to runs and next fire times: no fire lost or doubled, late ones by the misfire policy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from admin.domain.job import MAX_SHARDS, Job, Misfire
from admin.domain.names import RunId
from admin.domain.overlap import Active, Entry, entry, reason_of_skip
from admin.domain.run import Cause, Run, RunState
from admin.domain.trigger import delay_of, due_at, first_fire, next_fire

GRACE = timedelta(seconds=5)  # a fire time that is older is a misfire
CATCH_UP = timedelta(days=1)  # fire_all goes no further back
FIRES_A_TICK = 100  # of one job; the rest follows in the next tick
_INSTANT = timedelta(microseconds=1)
_MS = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


class Fires(NamedTuple):
    """The fire times to serve now, oldest first, and the next one behind them."""

    due: Sequence[datetime]
    next_fire_at: datetime | None


def fires_of(job: Job, now: datetime) -> Fires:
    """Which fire times of a job are to be served at `now`."""
    if delay_of(job.definition.trigger) is not None:
        return _fire_of_delayed(job, now)
    fires = _Fires(job)
    fire = job.next_fire_at
    due: list[datetime] = []
    if fire is not None and fires.due_at(fire) < now - GRACE:
        match job.definition.misfire:
            case Misfire.SKIP:
                fire = fires.behind(now - GRACE - _INSTANT)
            case Misfire.FIRE_ONCE:
                due.append(fire)
                fire = fires.behind(max(fire, now - GRACE - _INSTANT))
            case Misfire.FIRE_ALL if fire < now - CATCH_UP:
                fire = fires.behind(now - CATCH_UP - _INSTANT)
            case Misfire.FIRE_ALL:
                pass
    while fire is not None and fires.due_at(fire) <= now and len(due) < FIRES_A_TICK:
        due.append(fire)
        fire = fires.behind(fire)
    return Fires(due, fire)


@dataclass(frozen=True, slots=True)
class _Fires:
    """The fire times that a job's trigger names."""

    job: Job

    def behind(self, fire_at: datetime) -> datetime | None:
        return next_fire(self.job.definition.trigger, fire_at)

    def due_at(self, fire_at: datetime) -> datetime:
        return due_at(self.job.definition.trigger, fire_at, self.job.name)


def _fire_of_delayed(job: Job, now: datetime) -> Fires:
    """The next fire time is not known before the run of this one has ended; a late one is the same as one in time."""
    fire_at = job.next_fire_at
    return Fires((), fire_at) if fire_at is None or _Fires(job).due_at(fire_at) > now else Fires((fire_at,), None)


def fire_behind_end(job: Job, run: Run, now: datetime) -> datetime | None:
    """The next fire time of a job when a run of it ends: with a fixed delay, the last fire's run leads to it.
    An older one may end as well, where it is tried again or several may be active.
    """
    is_last = run.cause is Cause.FIRE and job.last_fire_at in (None, run.fire_at)
    is_awaited = is_last and job.next_fire_at is None and not job.is_paused
    if not is_awaited or delay_of(job.definition.trigger) is None:
        return job.next_fire_at
    return next_fire(job.definition.trigger, now)


def fire_of_edited(old: Job, new: Job, now: datetime) -> datetime | None:
    """The next fire time of a job that was edited: what is due stays due unless its trigger or pause changed."""
    if new.is_paused:
        return None
    if old.is_paused:
        return next_fire(new.definition.trigger, now)
    if new.definition.trigger == old.definition.trigger:
        return old.next_fire_at
    return first_fire(new.definition.trigger, now)


def key_of_fire(fire_at: datetime) -> str:
    """What makes a fire lead to exactly one run: its nominal time in milliseconds since the epoch."""
    return str((fire_at - _EPOCH) // _MS)


class Order(NamedTuple):
    """A run that is wanted; `params` and `total` in place of the job's own."""

    id: RunId
    cause: Cause
    key: str
    fire_at: datetime
    params: str | None = None
    total: int | None = None


class Planned(NamedTuple):
    """What a due job leads to."""

    runs: Sequence[Run]
    job: Job  # with its next fire time


def plan(job: Job, now: datetime, active: Active, *, executors: int, new_id: Callable[[], RunId]) -> Planned:
    """The runs of all fire times that are to be served at `now`."""
    fires = fires_of(job, now)
    due = [fire_at for fire_at in fires.due if _is_new(job, fire_at)]
    runs: list[Run] = []
    for fire_at in due:
        run_id = new_id()
        order = Order(run_id, Cause.FIRE, _key(job, fire_at, run_id), fire_at)
        run = run_of(job, order, now, active, executors=executors)
        active = active.behind(run)
        runs.append(run)
    last_fire_at = due[-1] if due else job.last_fire_at
    moved = job._replace(next_fire_at=fires.next_fire_at, last_fire_at=last_fire_at)
    for run in runs:
        if run.is_over:
            moved = moved._replace(next_fire_at=fire_behind_end(moved, run, now))
    return Planned(runs, moved)


def _key(job: Job, fire_at: datetime, run_id: RunId) -> str:
    """A fixed delay counts from an end: behind a clock that was set back it may name the time of an earlier fire."""
    return key_of_fire(fire_at) if delay_of(job.definition.trigger) is None else run_id


def _is_new(job: Job, fire_at: datetime) -> bool:
    """Whether no later fire led to a run. A fixed delay counts from an end, so none of its fires is an old one."""
    return job.last_fire_at is None or fire_at > job.last_fire_at or delay_of(job.definition.trigger) is not None


def run_of(job: Job, order: Order, now: datetime, active: Active, *, executors: int) -> Run:
    """The run with its frozen copy of the job; queued or skipped where it may not start beside older ones."""
    definition = job.definition
    begins = entry(definition, active)
    is_skipped = begins is Entry.SKIP
    return Run(
        id=order.id,
        job_id=job.id,
        definition_id=job.definition_id,
        definition=definition,
        state=RunState.SKIPPED if is_skipped else RunState.WAITING,
        cause=order.cause,
        key=order.key,
        fire_at=order.fire_at,
        total=order.total or definition.shards or min(max(executors, 1), MAX_SHARDS),
        params=definition.params if order.params is None else order.params,
        is_queued=begins is Entry.QUEUE,
        ended_at=now if is_skipped else None,
        reason=reason_of_skip(definition, active) if is_skipped else "",
    )
