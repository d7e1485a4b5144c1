"""From due jobs and now to runs and next fire times: no fire lost or doubled, late ones by the misfire policy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from admin.domain.job import MAX_SHARDS, Job, Misfire, Overlap
from admin.domain.names import RunId
from admin.domain.run import ACTIVE, Cause, Run, RunState
from admin.domain.shard import Shard, ShardState
from admin.domain.trigger import first_fire, next_fire

GRACE = timedelta(seconds=5)  # a fire time that is older is a misfire
CATCH_UP = timedelta(days=1)  # fire_all goes no further back
FIRES_A_TICK = 100  # of one job; the rest follows in the next tick
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Fires:
    """The fire times to serve now, oldest first, and the next one behind them."""

    due: Sequence[datetime]
    next_fire_at: datetime | None


def fires_of(job: Job, now: datetime) -> Fires:
    """Which fire times of a job are to be served at `now`."""
    trigger, fire = job.definition.trigger, job.next_fire_at
    due: list[datetime] = []
    if fire is not None and fire < now - GRACE:
        match job.definition.misfire:
            case Misfire.SKIP:
                fire = next_fire(trigger, now - GRACE - _INSTANT)
            case Misfire.FIRE_ONCE:
                due.append(fire)
                fire = next_fire(trigger, now - GRACE - _INSTANT)
            case Misfire.FIRE_ALL if fire < now - CATCH_UP:
                fire = next_fire(trigger, now - CATCH_UP - _INSTANT)
            case Misfire.FIRE_ALL:
                pass
    while fire is not None and fire <= now and len(due) < FIRES_A_TICK:
        due.append(fire)
        fire = next_fire(trigger, fire)
    return Fires(due, fire)


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
    return str(round(fire_at.timestamp() * 1000))


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is wanted; `params` and `total` in place of the job's own."""

    id: RunId
    cause: Cause
    key: str
    fire_at: datetime
    params: str | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a due job leads to."""

    runs: Sequence[Run]
    next_fire_at: datetime | None


def plan(job: Job, now: datetime, *, is_active: bool, executors: int, new_id: Callable[[], RunId]) -> Planned:
    """The runs of all fire times that are to be served at `now`."""
    fires = fires_of(job, now)
    runs: list[Run] = []
    for fire_at in fires.due:
        order = Order(new_id(), Cause.FIRE, key_of_fire(fire_at), fire_at)
        run = run_of(job, order, now, is_active=is_active, executors=executors)
        is_active = is_active or run.state in ACTIVE
        runs.append(run)
    return Planned(runs, fires.next_fire_at)


def run_of(job: Job, order: Order, now: datetime, *, is_active: bool, executors: int) -> Run:
    """The run with its frozen copy of the job; skipped where it may not start beside an older one."""
    definition = job.definition
    is_skipped = is_active and definition.overlap is Overlap.SKIP
    return Run(
        id=order.id,
        job=job.name,
        group=definition.group,
        handler=definition.handler,
        state=RunState.SKIPPED if is_skipped else RunState.WAITING,
        cause=order.cause,
        key=order.key,
        fire_at=order.fire_at,
        total=order.total or definition.shards or min(max(executors, 1), MAX_SHARDS),
        params=definition.params if order.params is None else order.params,
        retry=definition.retry,
        timeout=definition.timeout,
        ended_at=now if is_skipped else None,
        reason="an earlier run of the job has not ended (overlap: skip)" if is_skipped else "",
    )


def shards_of(run: Run, now: datetime) -> list[Shard]:
    """The shards a run starts with."""
    state = ShardState.SKIPPED if run.state is RunState.SKIPPED else ShardState.WAITING
    return [Shard(run.id, index, run.total, state, due_at=now) for index in range(run.total)]
