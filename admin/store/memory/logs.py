"""Logs of runs in memory: for tests and trials, with the same behaviour as SQL but for outliving the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from admin.domain.logs import LogChunk, admitted, logged
from admin.store.runs.rows import ms_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from admin.domain.logs import LoggedLine, Position
    from admin.domain.names import RunId


@dataclass(slots=True)
class _Log:
    """The log of one run: its chunks by number, with the time of the last line."""

    last_at: datetime
    last_number: int = 0
    raw_bytes: int = 0
    chunks: dict[int, tuple[LogChunk, datetime]] = field(default_factory=dict)

    def add(self, chunk: LogChunk, now: datetime, run_bytes: int) -> bool:
        """Whether the chunk was kept whole."""
        kept = admitted(chunk, self.raw_bytes, run_bytes)
        if kept is not None:
            self.last_number = max(self.last_number + 1, ms_of(now))
            self.raw_bytes += kept.cost
            last_at = max((line.at for line in chunk.lines), default=now)
            self.chunks[self.last_number] = (kept, last_at)
        self.last_at = now
        return kept is chunk

    @property
    def stored_bytes(self) -> int:
        return sum(chunk.cost for chunk, _ in self.chunks.values())


class MemoryRunLogs:
    """Implements RunLogs."""

    def __init__(self) -> None:
        self._logs: dict[RunId, _Log] = {}

    async def add(self, chunks: Sequence[LogChunk], now: datetime, run_bytes: int) -> Collection[RunId]:
        full: set[RunId] = set()
        for chunk in chunks:
            log = self._logs.setdefault(chunk.attempt.run_id, _Log(now))
            if not log.add(chunk, now, run_bytes):
                full.add(chunk.attempt.run_id)
        return full

    async def list(self, run_id: RunId, *, after: Position, shard: int | None, limit: int) -> Sequence[LoggedLine]:
        return list(islice(self._lines(run_id, after, shard), limit))

    def _lines(self, run_id: RunId, after: Position, shard: int | None) -> Iterator[LoggedLine]:
        log = self._logs.get(run_id)
        for number, (chunk, last_at) in log.chunks.items() if log else ():
            if number >= after.chunk and shard in (None, chunk.attempt.index):
                yield from logged(chunk, number, last_at, after)

    async def prune(self, before: datetime, keep_bytes: int, limit: int) -> int:
        by_age = sorted(self._logs, key=lambda run_id: self._logs[run_id].last_at)
        old = [run_id for run_id in by_age if self._logs[run_id].last_at < before]
        return await self.cancel(old or list(self._excess(by_age, keep_bytes)), limit)

    def _excess(self, by_age: Sequence[RunId], keep_bytes: int) -> Iterator[RunId]:
        excess = sum(log.stored_bytes for log in self._logs.values()) - keep_bytes
        for run_id in by_age:
            if excess <= 0:
                return
            excess -= self._logs[run_id].stored_bytes
            yield run_id

    async def cancel(self, run_ids: Collection[RunId], limit: int) -> int:
        gone = 0
        for run_id in run_ids:
            chunks = self._logs[run_id].chunks if run_id in self._logs else {}
            some = list(islice(chunks, limit - gone))
            for number in some:
                del chunks[number]
            gone += len(some)
            if not chunks:
                self._logs.pop(run_id, None)
        return gone
