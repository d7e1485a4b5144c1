"""Runs that have ended: one compact row each, from which run, shards and pins can be had again.

A shard is kept as the fields that are not as expected, short names to values; one that succeeded at the first try takes
some forty bytes. More than a few of them are compressed.
"""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, delete, select

from admin.domain.job import JobDefinition
from admin.domain.names import DefinitionId, JobId, RunId
from admin.domain.run import Run, shards_of
from admin.domain.shard import NOTHING_YET, Counters, Fault, Shard, ShardState
from admin.store.databases import many
from admin.store.runs.definitions import CHUNK, Definitions
from admin.store.runs.rows import Values, instant_of, ms_of
from admin.store.tables import SHARD_STATE, ended_runs

Pins = Mapping[str, str]
Fields = dict[str, object]

_PLAIN_BYTES = 256  # up to here compressing saves nothing
_CODES = {ShardState(member): code for code, member in SHARD_STATE.members}
_STATES = {code: member for member, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run with all that belonged to it."""

    run: Run
    shards: Sequence[Shard]
    pins: Pins


def add(connection: Connection, ended: Sequence[EndedRun]) -> None:
    """Writes them down."""
    many.insert(connection, ended_runs, [_values(each) for each in ended])


def load(
    connection: Connection, definitions: Definitions, run_ids: Collection[RunId], *, is_reading: bool = False
) -> Mapping[RunId, EndedRun]:
    """Those of the runs that have ended, their rows locked unless they are only read."""
    found: dict[RunId, EndedRun] = {}
    wanted = sorted(run_ids)
    for start in range(0, len(wanted), CHUNK):
        query = select(ended_runs).where(ended_runs.c.id.in_(wanted[start : start + CHUNK]))
        rows = connection.execute(query if is_reading else query.with_for_update()).all()
        known = definitions.get(connection, {row.definition_id for row in rows})
        for row in rows:
            run = run_of(row, known[row.definition_id])
            found[run.id] = EndedRun(run, *_detail_of(row, run))
    return found


def remove(connection: Connection, run_ids: Sequence[RunId]) -> None:
    for start in range(0, len(run_ids), CHUNK):
        connection.execute(delete(ended_runs).where(ended_runs.c.id.in_(run_ids[start : start + CHUNK])))


def prune(connection: Connection, before: datetime, most: int, limit: int) -> list[RunId]:
    """Forgets the oldest: those that ended before an instant, and those beyond the `most` newest."""
    newest = select(ended_runs.c.id).order_by(ended_runs.c.id.desc())
    surplus = connection.scalar(newest.offset(most).limit(1))
    is_old = ended_runs.c.ended_ms < ms_of(before)
    if surplus is not None:
        is_old |= ended_runs.c.id <= surplus
    query = select(ended_runs.c.id).where(is_old).order_by(ended_runs.c.id).limit(limit)
    gone = [RunId(key) for key in connection.scalars(query)]
    remove(connection, gone)
    return gone


def run_of(row: Row[*tuple[object, ...]], definition: JobDefinition) -> Run:
    """Of `ended_runs`."""
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
        started_at=instant_of(row.started_ms),
        ended_at=instant_of(row.ended_ms),
        cancelled_at=instant_of(row.cancelled_ms),
        reason=row.reason or "",
    )


def _values(ended: EndedRun) -> Values:
    run = ended.run
    assert run.ended_at is not None
    return {
        "id": run.id,
        "job_id": run.job_id,
        "definition_id": run.definition_id,
        "state": run.state,
        "cause": run.cause,
        "run_key": None if run.key == run.id else run.key,
        "fire_ms": ms_of(run.fire_at),
        "total": run.total,
        "params": None if run.params == run.definition.params else run.params,
        "started_ms": ms_of(run.started_at),
        "ended_ms": ms_of(run.ended_at),
        "cancelled_ms": ms_of(run.cancelled_at),
        "reason": run.reason or None,
        "detail": _detail(ended, run.ended_at),
    }


def _detail(ended: EndedRun, ended_at: datetime) -> bytes | None:
    """None where nothing ever began."""
    if not any(shard.term for shard in ended.shards) and not ended.pins:
        return None
    detail: list[object] = [_fields(shard, ended_at) for shard in ended.shards]
    if ended.pins:
        detail.append(dict(ended.pins))
    text = json.dumps(detail, ensure_ascii=False, separators=(",", ":")).encode()
    return text if len(text) <= _PLAIN_BYTES else zlib.compress(text)


def _detail_of(row: Row[*tuple[object, ...]], run: Run) -> tuple[Sequence[Shard], Pins]:
    if row.detail is None:
        return shards_of(run, run.fire_at), {}
    data = bytes(row.detail)
    detail = json.loads(data if data.startswith(b"[") else zlib.decompress(data))
    shards = [_shard_of(fields, index, run) for index, fields in enumerate(detail[: run.total])]
    return shards, detail[run.total] if len(detail) > run.total else {}


def _fields(shard: Shard, ended_at: datetime) -> Fields:
    """Instants as milliseconds before the end of the run."""
    counters, fault = shard.counters, shard.fault
    fields: Fields = {
        "s": None if shard.state is ShardState.SUCCEEDED else _CODES[shard.state],
        "a": None if shard.attempt == 1 else shard.attempt,
        "t": None if shard.term == 1 else shard.term,
        "l": shard.losses or None,
        "r": None if shard.reported_term == shard.term else shard.reported_term,
        "h": shard.holder_name or None,
        "b": _before(shard.started_at, ended_at),
        "e": _before(shard.ended_at, ended_at),
        "d": _before(shard.due_at, ended_at) if shard.attempt != 1 else None,
        "c": None if counters == NOTHING_YET else counters,
        "f": [fault.code, fault.message, fault.traceback] if fault else None,
        "v": shard.result or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _shard_of(fields: Mapping[str, object], index: int, run: Run) -> Shard:
    get = fields.get
    assert run.ended_at is not None
    term = _int(get("t", 1))
    started_at = _back(get("b"), run.ended_at)
    return Shard(
        run_id=run.id,
        index=index,
        total=run.total,
        state=ShardState.SUCCEEDED if "s" not in fields else ShardState(_STATES[_int(get("s"))]),
        due_at=_back(get("d"), run.ended_at) or run.fire_at,
        attempt=_int(get("a", 1)),
        term=term,
        losses=_int(get("l", 0)),
        reported_term=_int(get("r", term)),
        holder_name=str(get("h", "")),
        started_at=started_at,
        ended_at=_back(get("e"), run.ended_at),
        counters=Counters(*get("c", ())),  # type: ignore[misc]
        fault=Fault(*get("f")) if "f" in fields else None,  # type: ignore[misc]
        result=str(get("v", "")),
    )


def _before(instant: datetime | None, ended_at: datetime) -> int | None:
    return None if instant is None else ms_of(ended_at) - ms_of(instant)


def _back(ms: object, ended_at: datetime) -> datetime | None:
    return None if ms is None else instant_of(ms_of(ended_at) - _int(ms))


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
