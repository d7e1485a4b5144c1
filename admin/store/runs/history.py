"""Runs that have ended: one compact row each, from which run, shards and pins can be had again.

A shard is kept as the fields that are not as expected, short names to values; one that succeeded at the first try takes
some forty bytes. More than a few of them are compressed.
"""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from admin.domain.job import JobDefinition
from admin.domain.names import DefinitionId, JobId, RunId
from admin.domain.run import Run, shards_of
from admin.domain.shard import NOTHING_YET, Counters, Fault, Shard, ShardState
from admin.store.databases import many
from admin.store.databases.many import Lock, Raw
from admin.store.runs.definitions import Definitions
from admin.store.runs.rows import (
    CAUSE_CODES,
    CAUSES,
    RUN_CODES,
    RUN_STATES,
    SHARD_CODES,
    SHARD_STATES,
    Values,
    definition_id_of,
    instant_of,
    ms_of,
)
from admin.store.tables import ended_runs
from admin.store.types import first_uuid, uuid_bytes, uuid_text

Pins = Mapping[str, str]
Fields = dict[str, object]

MOST_BYTES = 8 << 20  # of one row; MariaDB takes 16 MiB in a statement
MOST_FAULT = 1_000  # characters of a message then
_PLAIN_BYTES = 256  # up to here compressing saves nothing
_BY_ID = f"SELECT {', '.join(f'e.{column.name}' for column in ended_runs.c)} FROM ended_runs e WHERE e.id IN ({{keys}})"


_STILL_OLD = "SELECT id FROM ended_runs WHERE (ended_ms < {mark} OR id <= {mark}) AND id IN ({keys}) ORDER BY id"


class Old(NamedTuple):
    """Runs that are to be forgotten, and why."""

    keys: Sequence[bytes]
    before_ms: int
    surplus: bytes  # this one and those before it are beyond the newest that stay


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
    connection: Connection, definitions: Definitions, run_ids: Collection[RunId], *, lock: Lock = Lock.WAIT
) -> Mapping[RunId, EndedRun]:
    """Those of the runs that have ended."""
    rows = many.fetch(connection, _BY_ID, [uuid_bytes(run_id) for run_id in sorted(run_ids)], lock=lock)
    known = definitions.get(connection, {definition_id_of(row) for row in rows})
    found: dict[RunId, EndedRun] = {}
    for row in rows:
        run = run_of(row, known[definition_id_of(row)])
        found[run.id] = EndedRun(run, *_detail_of(row[-1], run))
    return found


def remove(connection: Connection, run_ids: Sequence[RunId]) -> None:
    many.delete(connection, ended_runs, "id", [uuid_bytes(run_id) for run_id in run_ids])


def find_surplus(connection: Connection, most: int) -> bytes:
    """The newest of those beyond the `most` newest, who are counted for that; nothing where there are none."""
    newest = select(ended_runs.c.id).order_by(ended_runs.c.id.desc())
    found: bytes | None = connection.scalar(newest.offset(most).limit(1))
    return found or b""


def find_old(connection: Connection, before: datetime, surplus: bytes, limit: int) -> Old:
    """The oldest: those that ended before an instant, and those up to the surplus."""
    is_old = (ended_runs.c.ended_ms < ms_of(before)) | (ended_runs.c.id <= surplus)
    is_among = ended_runs.c.id <= max(surplus, first_uuid(before))  # what began later has not ended before
    query = select(ended_runs.c.id).where(is_among, is_old).order_by(ended_runs.c.id).limit(limit)
    return Old(list(connection.scalars(query)), ms_of(before), surplus)


def prune(connection: Connection, old: Old) -> list[RunId]:
    """Forgets those that are still there, and as old: one may have been tried again meanwhile."""
    rows = many.fetch(connection, _STILL_OLD, old.keys, before=(old.before_ms, old.surplus), lock=Lock.WAIT)
    gone = sorted({bytes(key) for (key,) in rows})
    many.delete(connection, ended_runs, "id", gone)
    return [RunId(uuid_text(key)) for key in gone]


def run_of(row: Raw, definition: JobDefinition) -> Run:
    """Of `ended_runs`."""
    key, job_id, definition_id, state, cause, text, fire_ms, total, params, started, ended, cancelled, reason, _ = row
    run_id = RunId(uuid_text(key))
    return Run(
        id=run_id,
        job_id=JobId(job_id),
        definition_id=DefinitionId(definition_id),
        definition=definition,
        state=RUN_STATES[state],
        cause=CAUSES[cause],
        key=text or run_id,
        fire_at=instant_of(fire_ms),
        total=total,
        params=definition.params if params is None else params,
        started_at=instant_of(started),
        ended_at=instant_of(ended),
        cancelled_at=instant_of(cancelled),
        reason=reason or "",
    )


def _values(ended: EndedRun) -> Values:
    run = ended.run
    assert run.ended_at is not None
    return {
        "id": uuid_bytes(run.id),
        "job_id": run.job_id,
        "definition_id": run.definition_id,
        "state": RUN_CODES[run.state],
        "cause": CAUSE_CODES[run.cause],
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
    packed = _packed(detail)
    if len(packed) <= MOST_BYTES:
        return packed
    return _packed([_shortened(fields) for fields in detail])


def _packed(detail: Sequence[object]) -> bytes:
    text = json.dumps(detail, ensure_ascii=False, separators=(",", ":")).encode()
    return text if len(text) <= _PLAIN_BYTES else zlib.compress(text)


def _shortened(fields: object) -> object:
    """Without what a shard returned and where one that succeeded was, with the beginning of what it failed with: all of
    it would be too much.
    """
    if not isinstance(fields, dict):
        return fields
    short = {name: value for name, value in fields.items() if name != "v"}
    if "s" not in short and isinstance(counters := short.get("c"), tuple):
        short["c"] = Counters(*counters)._replace(cursor="")
    if isinstance(fault := short.get("f"), list):
        short["f"] = [fault[0], fault[1][:MOST_FAULT], "left out: the run has too much to keep"]
    return short


def _detail_of(detail: bytes | None, run: Run) -> tuple[Sequence[Shard], Pins]:
    if detail is None:
        return shards_of(run, run.fire_at), {}
    data = bytes(detail)
    kept: list[Any] = json.loads(data if data.startswith(b"[") else zlib.decompress(data))
    shards = [_shard_of(fields, index, run) for index, fields in enumerate(kept[: run.total])]
    return shards, kept[run.total] if len(kept) > run.total else {}


def _fields(shard: Shard, ended_at: datetime) -> Fields:
    """Instants as milliseconds before the end of the run."""
    counters, fault = shard.counters, shard.fault
    fields: Fields = {
        "s": None if shard.state is ShardState.SUCCEEDED else SHARD_CODES[shard.state],
        "a": None if shard.attempt == 1 else shard.attempt,
        "t": None if shard.term == 1 else shard.term,
        "l": shard.losses or None,
        "r": None if shard.reported_term == shard.term else shard.reported_term,
        "h": shard.holder_name or None,
        "b": _before(shard.started_at, ended_at),
        "e": _before(shard.ended_at, ended_at),
        "d": _before(shard.due_at, ended_at) if shard.attempt != 1 else None,
        "c": None if counters == NOTHING_YET else counters if counters.counts else counters[:5],
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
        state=ShardState.SUCCEEDED if "s" not in fields else SHARD_STATES[_int(get("s"))],
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
