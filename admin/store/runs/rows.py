"""Rows of runs and shards to the domain's data, and back: plain values in the order of the columns."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from admin.domain.job import JobDefinition, Overlap
from admin.domain.names import DefinitionId, ExecutorId, JobId, RunId
from admin.domain.run import Cause, Run, RunState
from admin.domain.shard import NOTHING_YET, Counters, Fault, Shard, ShardState
from admin.store.databases.many import Raw
from admin.store.tables import runs, shards
from admin.store.types import uuid_bytes, uuid_text

Values = Mapping[str, object]
_MS = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)

# The numbers are kept in databases: a new member goes behind all others of its enumeration, and none goes.
RUN_STATES = dict(enumerate(RunState, 1))
SHARD_STATES = dict(enumerate(ShardState, 1))
CAUSES = dict(enumerate(Cause, 1))
RUN_CODES = {state: code for code, state in RUN_STATES.items()}
SHARD_CODES = {state: code for code, state in SHARD_STATES.items()}
CAUSE_CODES = {cause: code for code, cause in CAUSES.items()}

RUN_COLUMNS = ", ".join(f"r.{column.name}" for column in runs.c)
SHARD_COLUMNS = ", ".join(f"s.{column.name}" for column in shards.c)
RUN_WIDTH = len(runs.c)
QUEUED, REPLACING = 1, 2  # a run that is not queued has neither


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
    return None if ms is None else _EPOCH + timedelta(0, 0, 0, ms)


def definition_id_of(row: Raw) -> DefinitionId:
    """Of `runs`."""
    return DefinitionId(row[2])


def run_of(row: Raw, definition: JobDefinition) -> Run:
    """Of `runs`, alone or before other columns."""
    key, job_id, definition_id, state, cause, text, fire_ms, total, params, queued, _, started, cancelled, reason = row[
        :RUN_WIDTH
    ]
    run_id = RunId(uuid_text(key))
    return Run(
        run_id,
        JobId(job_id),
        DefinitionId(definition_id),
        definition,
        RUN_STATES[state],
        CAUSES[cause],
        text or run_id,
        instant_of(fire_ms),
        total,
        definition.params if params is None else params,
        queued is not None,
        instant_of(started),
        None,
        instant_of(cancelled),
        reason or "",
    )


def is_pinned(row: Raw) -> bool:
    """Of `runs`, whether it has pins."""
    return bool(row[10])


def run_values(run: Run) -> Values:
    """For `runs`: what never changes, and what does."""
    return {
        "id": uuid_bytes(run.id),
        "job_id": run.job_id,
        "definition_id": run.definition_id,
        "cause": CAUSE_CODES[run.cause],
        "run_key": None if run.key == run.id else run.key,
        "fire_ms": ms_of(run.fire_at),
        "total": run.total,
        "params": None if run.params == run.definition.params else run.params,
        "is_pinned": False,
        **_moving_values(run),
    }


def moved_values(run: Run) -> Values:
    """What changes while a run has not ended, with its key."""
    return {"id": uuid_bytes(run.id), **_moving_values(run)}


def _moving_values(run: Run) -> Values:
    return {
        "state": RUN_CODES[run.state],
        "queued": _queued(run),
        "started_ms": ms_of(run.started_at),
        "cancelled_ms": ms_of(run.cancelled_at),
        "reason": run.reason or None,
    }


def _queued(run: Run) -> int | None:
    if not run.is_queued:
        return None
    return REPLACING if run.definition.overlap is Overlap.REPLACE else QUEUED


def shard_of(row: Raw, run_id: RunId) -> Shard:
    """Of `shards`."""
    _, index, total, _, _, state, due_ms, attempt, term, losses, reported_term, holder, name = row[:13]
    leased_ms, deadline_ms, started_ms, ended_ms, count, published, cursor, done, done_total = row[13:22]
    code, message, traceback, result, counts = row[22:]
    counters = NOTHING_YET
    if count or published or cursor or done or done_total or counts:
        counters = Counters(count, published, cursor or "", done, done_total, counts or "")
    return Shard(
        run_id,
        index,
        total,
        SHARD_STATES[state],
        instant_of(due_ms),
        attempt,
        term,
        losses,
        reported_term,
        None if holder is None else ExecutorId(holder),
        name or "",
        instant_of(leased_ms),
        instant_of(deadline_ms),
        instant_of(started_ms),
        instant_of(ended_ms),
        counters,
        None if code is None else Fault(code, message or "", traceback or ""),
        result or "",
    )


_COLUMNS: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "state": ("state", SHARD_CODES.__getitem__),
    "due_at": ("due_ms", ms_of),
    "attempt": ("attempt", int),
    "term": ("term", int),
    "losses": ("losses", int),
    "reported_term": ("reported_term", int),
    "holder": ("holder", lambda holder: holder),
    "holder_name": ("holder_name", str),
    "leased_until_at": ("leased_until_ms", ms_of),
    "deadline_at": ("deadline_ms", ms_of),
    "started_at": ("started_ms", ms_of),
    "ended_at": ("ended_ms", ms_of),
    "result": ("result", str),
}
"""The columns of a shard's plain fields, and what they hold of them."""

_BY_FIELD = [(Shard._fields.index(field), name, of) for field, (name, of) in _COLUMNS.items()]


def new_shard_values(shard: Shard, run: Run) -> Values:
    """Of a shard that nothing has happened to, but that it may be leased; the other columns have defaults."""
    values = {
        "run_id": uuid_bytes(shard.run_id),
        "shard_index": shard.index,
        "total": shard.total,
        "group_name": run.group,
        "handler": run.handler,
        "state": SHARD_CODES[shard.state],
        "due_ms": ms_of(shard.due_at),
    }
    if shard.holder is None:
        return values
    return {
        **values,
        "attempt": shard.attempt,
        "term": shard.term,
        "holder": shard.holder,
        "holder_name": shard.holder_name,
        "leased_until_ms": ms_of(shard.leased_until_at),
        "deadline_ms": ms_of(shard.deadline_at),
    }


def changed_values(old: Shard, new: Shard) -> Values:
    """What a step changed, with the key: most steps change a few columns only."""
    changed: dict[str, object] = {"run_id": uuid_bytes(new.run_id), "shard_index": new.index}
    for at, name, of in _BY_FIELD:
        if (value := new[at]) != old[at]:
            changed[name] = of(value)
    if old.counters != new.counters:
        changed |= counter_values(new.counters)
    if old.fault != new.fault:
        fault = new.fault
        changed["error_code"] = fault.code if fault else None
        changed["error_message"] = fault.message if fault else None
        changed["traceback"] = fault.traceback if fault else None
    return changed


def counter_values(counters: Counters) -> Values:
    return {
        "row_count": counters.rows,
        "published": counters.published,
        "cursor_text": counters.cursor or None,
        "done": counters.done,
        "done_total": counters.total,
        "counts": counters.counts or None,
    }
