"""From due jobs and now to runs and next fire times: no fire lost or doubled, late ones by the misfire policy."""

from collections.abc import Callable, Collection, Sequence
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
    fires, misfire = _Fires(job), job.definition.misfire
    late_before_at = now - GRACE
    fire = job.next_fire_at
    due: list[datetime] = []
    if fire is not None and fires.due_at(fire) < late_before_at:
        if misfire is Misfire.FIRE_ONCE:
            due.append(fire)
            fire = fires.behind(fire)
        fire = fires.from_(fire, (now - CATCH_UP) if misfire is Misfire.FIRE_ALL else late_before_at)
    while fire is not None and (due_at_ := fires.due_at(fire)) <= now and len(due) < FIRES_A_TICK:
        if misfire is Misfire.FIRE_ALL or due_at_ >= late_before_at:
            due.append(fire)
        fire = fires.behind(fire)
    return Fires(due, fire)


@dataclass(frozen=True, slots=True)
class _Fires:
    """The fire times that a job's trigger names."""

    job: Job

    def behind(self, fire_at: datetime) -> datetime | None:
        return next_fire(self.job.definition.trigger, fire_at)

    def from_(self, fire_at: datetime | None, at: datetime) -> datetime | None:
        """The first, from one on, that may be due at an instant or later."""
        first_at = at - self.job.definition.trigger.jitter
        return fire_at if fire_at is None or fire_at >= first_at else self.behind(first_at - _INSTANT)

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


def fire_of_edited(old: Job, new: Job, now: datetime, *, awaits_end: bool) -> datetime | None:
    """The next fire time of a job that was edited: what is due stays due unless its trigger or pause changed. With a
    fixed delay there is none while a run of a fire has not ended.
    """
    if new.is_paused or (awaits_end and delay_of(new.definition.trigger) is not None):
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
    runs: list[Run] = []
    for fire_at in fires.due:
        run_id = new_id()
        order = Order(run_id, Cause.FIRE, _key(job, fire_at, run_id), fire_at)
        run = run_of(job, order, now, active, executors=executors)
        active = active.behind(run)
        runs.append(run)
    last_fire_at = _last_fire(job, fires.due)
    moved = job._replace(next_fire_at=fires.next_fire_at, last_fire_at=last_fire_at)
    for run in runs:
        if run.is_over:
            moved = moved._replace(next_fire_at=fire_behind_end(moved, run, now))
    return Planned(runs, moved)


def is_doubtful(job: Job, run: Run) -> bool:
    """Whether the fire may have led to a run before: a clock that was set back names fire times anew."""
    return job.last_fire_at is None or run.fire_at <= job.last_fire_at


def without(planned: Planned, known: Collection[RunId]) -> Planned:
    """Without runs whose fires led to one before."""
    return planned._replace(runs=[run for run in planned.runs if run.id not in known])


def _key(job: Job, fire_at: datetime, run_id: RunId) -> str:
    """A fixed delay counts from an end: behind a clock that was set back it may name the time of an earlier fire."""
    return key_of_fire(fire_at) if delay_of(job.definition.trigger) is None else run_id


def _last_fire(job: Job, due: Sequence[datetime]) -> datetime | None:
    """The latest that ever led to a run; with a fixed delay the last one, whose run's end leads to the next."""
    if not due:
        return job.last_fire_at
    is_later = job.last_fire_at is None or due[-1] > job.last_fire_at
    return due[-1] if is_later or delay_of(job.definition.trigger) is not None else job.last_fire_at


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
