"""Rows of runs and shards to the domain's data, and back."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import overload

from sqlalchemy import Row

from admin.domain.job import JobDefinition, Overlap
from admin.domain.names import DefinitionId, ExecutorId, JobId, RunId
from admin.domain.run import Run
from admin.domain.shard import Counters, Fault, Shard

Values = Mapping[str, object]
_MS = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


@overload
def ms_of(instant: datetime) -> int: ...
@overload
def ms_of(instant: None) -> None: ...
def ms_of(instant: datetime | None) -> int | None:
    """Milliseconds since the epoch, rounded down."""
    return None if instant is None else (instant - _EPOCH) // _MS


@overload
def instant_of(ms: int) -> datetime: ...
@overload
def instant_of(ms: None) -> None: ...
def instant_of(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)


NOT_QUEUED, QUEUED, REPLACING = range(3)


def run_of(row: Row[*tuple[object, ...]], definition: JobDefinition) -> Run:
    """Of `runs`."""
    return Run(
        id=RunId(row.id),
        job_id=JobId(row.job_id),
        definition_id=DefinitionId(row.definition_id),
        definition=definition,
        state=row.state,
        cause=row.cause,
        key=row.run_key or row.id,
        fire_at=instant_of(row.fire_ms),
        total=row.total,
        params=definition.params if row.params is None else row.params,
        is_queued=row.queued != NOT_QUEUED,
        started_at=instant_of(row.started_ms),
        cancelled_at=instant_of(row.cancelled_ms),
        reason=row.reason or "",
    )


def run_values(run: Run) -> Values:
    """For `runs`: what never changes, and what does."""
    return {
        "id": run.id,
        "job_id": run.job_id,
        "definition_id": run.definition_id,
        "cause": run.cause,
        "run_key": None if run.key == run.id else run.key,
        "fire_ms": ms_of(run.fire_at),
        "total": run.total,
        "params": None if run.params == run.definition.params else run.params,
        **moving_values(run),
    }


def moving_values(run: Run) -> Values:
    """What changes while a run has not ended."""
    return {
        "state": run.state,
        "queued": _queued(run),
        "started_ms": ms_of(run.started_at),
        "cancelled_ms": ms_of(run.cancelled_at),
        "reason": run.reason or None,
    }


def _queued(run: Run) -> int:
    if not run.is_queued:
        return NOT_QUEUED
    return REPLACING if run.definition.overlap is Overlap.REPLACE else QUEUED


def shard_of(row: Row[*tuple[object, ...]]) -> Shard:
    return Shard(
        run_id=RunId(row.run_id),
        index=row.shard_index,
        total=row.total,
        state=row.state,
        due_at=instant_of(row.due_ms),
        attempt=row.attempt,
        term=row.term,
        losses=row.losses,
        reported_term=row.reported_term,
        holder=None if row.holder is None else ExecutorId(row.holder),
        holder_name=row.holder_name or "",
        leased_until_at=instant_of(row.leased_until_ms),
        deadline_at=instant_of(row.deadline_ms),
        started_at=instant_of(row.started_ms),
        ended_at=instant_of(row.ended_ms),
        counters=Counters(row.row_count, row.published, row.cursor_text or "", row.done, row.done_total),
        fault=None if row.error_code is None else Fault(row.error_code, row.error_message or "", row.traceback or ""),
        result=row.result or "",
    )


_COLUMNS: Mapping[str, Callable[[Shard], object]] = {
    "state": lambda shard: shard.state,
    "due_ms": lambda shard: ms_of(shard.due_at),
    "attempt": lambda shard: shard.attempt,
    "term": lambda shard: shard.term,
    "losses": lambda shard: shard.losses,
    "reported_term": lambda shard: shard.reported_term,
    "holder": lambda shard: shard.holder,
    "holder_name": lambda shard: shard.holder_name or None,
    "leased_until_ms": lambda shard: ms_of(shard.leased_until_at),
    "deadline_ms": lambda shard: ms_of(shard.deadline_at),
    "started_ms": lambda shard: ms_of(shard.started_at),
    "ended_ms": lambda shard: ms_of(shard.ended_at),
}
_RESULT: Mapping[str, Callable[[Shard], object]] = {
    "row_count": lambda shard: shard.counters.rows,
    "published": lambda shard: shard.counters.published,
    "cursor_text": lambda shard: shard.counters.cursor or None,
    "done": lambda shard: shard.counters.done,
    "done_total": lambda shard: shard.counters.total,
    "error_code": lambda shard: shard.fault.code if shard.fault else None,
    "error_message": lambda shard: shard.fault.message if shard.fault else None,
    "traceback": lambda shard: shard.fault.traceback if shard.fault else None,
    "result": lambda shard: shard.result or None,
}


def new_shard_values(shard: Shard, run: Run) -> Values:
    """Of a shard that nothing has happened to; the other columns have defaults."""
    return {
        "run_id": shard.run_id,
        "shard_index": shard.index,
        "total": shard.total,
        "group_name": run.group,
        "handler": run.handler,
        "state": shard.state,
        "due_ms": ms_of(shard.due_at),
    }


def changed_values(old: Shard, new: Shard) -> Values:
    """What a step changed, with the key: most steps change a few columns only."""
    columns = _COLUMNS
    if old.counters is not new.counters or old.fault is not new.fault or old.result != new.result:
        columns = {**_COLUMNS, **_RESULT}
    changed = {name: value for name, of in columns.items() if (value := of(new)) != of(old)}
    return {"run_id": new.run_id, "shard_index": new.index, **changed}


def counter_values(counters: Counters) -> Values:
    return {
        "row_count": counters.rows,
        "published": counters.published,
        "cursor_text": counters.cursor or None,
        "done": counters.done,
        "done_total": counters.total,
    }
