"""Logs of runs in SQL: compressed chunks, numbered within their run under the lock of its row in `logged_runs`."""

import asyncio
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Insert, Row, Select, delete, func, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from admin.domain.logs import CHUNK_COST, LogChunk, LoggedLine, LogLine, Position, admitted, logged
from admin.domain.names import Attempt, RunId
from admin.store.databases.database import Database
from admin.store.runs.definitions import chunks as portions
from admin.store.runs.rows import instant_of, ms_of
from admin.store.tables import logged_runs, run_logs

CHUNKS_A_READ = 16  # a megabyte of lines
RUNS_A_LOOK = 400


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk, and its lines as they are stored."""

    chunk: LogChunk
    data: bytes


@dataclass(slots=True)
class Head:
    """What is known of a run's log as a whole."""

    last_number: int
    raw_bytes: int
    stored_bytes: int


class SqlRunLogs:
    """Implements RunLogs. Numbers of a run rise with its chunks and are at least the time in milliseconds, so that none
    comes again when a log was forgotten and goes on: a reader's position stays right."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, chunks: Sequence[LogChunk], now: datetime, run_bytes: int) -> Collection[RunId]:
        packed = await asyncio.to_thread(lambda: [Packed(chunk, pack(chunk.lines)) for chunk in chunks])
        return await self._database.write(lambda connection: _add(connection, packed, ms_of(now), run_bytes))

    async def list(self, run_id: RunId, *, after: Position, shard: int | None, limit: int) -> Sequence[LoggedLine]:
        query = select(run_logs).where(run_logs.c.run_id == run_id).order_by(run_logs.c.number).limit(CHUNKS_A_READ)
        if shard is not None:
            query = query.where(run_logs.c.shard_index == shard)
        return await self._database.read(lambda connection: _list(connection, query, after, limit))

    async def prune(self, before: datetime, keep_bytes: int, limit: int) -> int:
        before_ms = ms_of(before)
        run_ids = await self._database.read(lambda connection: _to_forget(connection, before_ms, keep_bytes))
        return await self.cancel(run_ids, limit)

    async def cancel(self, run_ids: Collection[RunId], limit: int) -> int:
        gone = 0
        for some in portions(sorted(run_ids)):
            if gone >= limit:
                break
            gone += await self._forget(some, limit - gone)
        return gone

    async def _forget(self, run_ids: Sequence[RunId], limit: int) -> int:
        return await self._database.write(lambda connection: _forget(connection, run_ids, limit))


def pack(lines: Sequence[LogLine]) -> bytes:
    """A line of JSON each, compressed; nothing for none."""
    if not lines:
        return b""
    rows = (json.dumps([ms_of(line.at), line.level, line.text], separators=(",", ":")) for line in lines)
    return zlib.compress("\n".join(rows).encode())


def unpack(data: bytes) -> Sequence[LogLine]:
    if not data:
        return ()
    rows = map(json.loads, zlib.decompress(data).decode().split("\n"))
    return [LogLine(instant_of(ms), level, text) for ms, level, text in rows]


def _add(connection: Connection, packed: Sequence[Packed], now_ms: int, run_bytes: int) -> Collection[RunId]:
    heads = _locked_heads(connection, sorted({item.chunk.attempt.run_id for item in packed}), now_ms)
    rows: list[Mapping[str, object]] = []
    full: set[RunId] = set()
    for item in packed:
        run_id = item.chunk.attempt.run_id
        head = heads[run_id]
        kept = admitted(item.chunk, head.raw_bytes, run_bytes)
        if kept is not item.chunk:
            full.add(run_id)
        if kept is not None:
            rows.append(_placed(head, item, kept, now_ms))
    if rows:
        connection.execute(insert(run_logs), rows)
    for run_id, head in heads.items():
        values = {
            "last_number": head.last_number,
            "raw_bytes": head.raw_bytes,
            "stored_bytes": head.stored_bytes,
        }
        connection.execute(update(logged_runs).where(logged_runs.c.run_id == run_id).values(values))
    return full


def _placed(head: Head, item: Packed, kept: LogChunk, now_ms: int) -> Mapping[str, object]:
    """The row of a chunk; its head moves on."""
    data = item.data if kept is item.chunk else b""
    stored_bytes = len(data) + CHUNK_COST
    times = [ms_of(line.at) for line in item.chunk.lines] or [now_ms]
    head.last_number = max(head.last_number + 1, now_ms)
    head.raw_bytes += kept.cost
    head.stored_bytes += stored_bytes
    return {
        "run_id": kept.attempt.run_id,
        "number": head.last_number,
        "shard_index": kept.attempt.index,
        "term": kept.attempt.term,
        "attempt": kept.number,
        "first_ms": min(times),
        "last_ms": max(times),
        "line_count": len(kept.lines),
        "dropped": kept.dropped,
        "raw_bytes": kept.cost,
        "stored_bytes": stored_bytes,
        "chunk": data,
    }


def _locked_heads(connection: Connection, run_ids: Sequence[RunId], now_ms: int) -> dict[RunId, Head]:
    """Made where they are not there yet, and locked in the order of their ids, as everybody locks them."""
    rows = [
        {"run_id": run_id, "last_number": 0, "raw_bytes": 0, "stored_bytes": 0, "last_ms": now_ms} for run_id in run_ids
    ]
    connection.execute(_made_or_touched(connection.dialect.name), rows)
    heads: dict[RunId, Head] = {}
    for some in portions(run_ids):
        query = (
            select(logged_runs).where(logged_runs.c.run_id.in_(some)).order_by(logged_runs.c.run_id).with_for_update()
        )
        for row in connection.execute(query):
            heads[row.run_id] = Head(row.last_number, row.raw_bytes, row.stored_bytes)
    return heads


def _made_or_touched(dialect: str) -> Insert:
    """The one statement that makes a row or locks the one that is there, without a moment in between."""
    if dialect in ("mysql", "mariadb"):
        made = mysql.insert(logged_runs)
        return made.on_duplicate_key_update(last_ms=made.inserted.last_ms)
    some = postgresql.insert(logged_runs) if dialect == "postgresql" else sqlite.insert(logged_runs)
    return some.on_conflict_do_update(index_elements=["run_id"], set_={"last_ms": some.excluded.last_ms})


def _list(
    connection: Connection, query: Select[tuple[object, ...]], after: Position, limit: int
) -> Sequence[LoggedLine]:
    found: list[LoggedLine] = []
    number, is_more = after.chunk, True
    while is_more and len(found) < limit:
        rows = connection.execute(query.where(run_logs.c.number >= number)).all()
        is_more = len(rows) == CHUNKS_A_READ
        for row in rows:
            number = row.number + 1
            found += logged(_chunk_of(row), row.number, instant_of(row.last_ms), after)
            if len(found) >= limit:
                break
    return found[:limit]


def _chunk_of(row: Row[*tuple[object, ...]]) -> LogChunk:
    attempt = Attempt(row.run_id, row.shard_index, row.term)
    return LogChunk(attempt, row.attempt, unpack(row.chunk), row.dropped)


def _to_forget(connection: Connection, before_ms: int, keep_bytes: int) -> Sequence[RunId]:
    """Some of the runs whose logs are too old, or too much for all to stay; the longest untouched first."""
    oldest = select(logged_runs).order_by(logged_runs.c.last_ms).limit(RUNS_A_LOOK)
    old = [row.run_id for row in connection.execute(oldest.where(logged_runs.c.last_ms < before_ms))]
    return old or list(_excess(connection, oldest, keep_bytes))


def _excess(connection: Connection, oldest: Select[tuple[object, ...]], keep_bytes: int) -> Iterator[RunId]:
    excess = (connection.execute(select(func.sum(logged_runs.c.stored_bytes))).scalar() or 0) - keep_bytes
    for row in connection.execute(oldest):
        if excess <= 0:
            return
        excess -= row.stored_bytes
        yield row.run_id


def _forget(connection: Connection, run_ids: Sequence[RunId], limit: int) -> int:
    """Chunks of the runs in their order, the oldest first, and the rows of those runs that have none left."""
    head = logged_runs.c.run_id
    query = select(head).where(head.in_(run_ids)).order_by(head).with_for_update()
    locked = connection.execute(query).scalars().all()
    of = run_logs.c
    wanted = select(of.run_id, of.number, of.stored_bytes).where(of.run_id.in_(locked))
    rows = connection.execute(wanted.order_by(of.run_id, of.number).limit(limit)).all()
    last = rows[-1] if len(rows) == limit else None  # of this run there may be more
    done = [run_id for run_id in locked if last is None or run_id < last.run_id]
    connection.execute(delete(run_logs).where(of.run_id.in_(done)))
    connection.execute(delete(logged_runs).where(head.in_(done)))
    if last is not None:
        freed = sum(row.stored_bytes for row in rows if row.run_id == last.run_id)
        connection.execute(delete(run_logs).where(of.run_id == last.run_id, of.number <= last.number))
        values = {"stored_bytes": logged_runs.c.stored_bytes - freed}
        connection.execute(update(logged_runs).where(head == last.run_id).values(values))
    return len(rows)
