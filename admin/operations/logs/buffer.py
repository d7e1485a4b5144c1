"""Lines of attempts on their way to the store: bounded, capped, and written many at once."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from admin.domain.logs import CHUNK_COST, MAX_CHUNK_BYTES, LogCaps, LogChunk, LogLine
from admin.domain.names import Attempt
from admin.operations.runs import bell_of
from admin.ports import Clock, RunLogs, Wakeup
from protos.errors import ShardcastError

log = structlog.get_logger(__name__)

BELL = "log_writer"
MAX_WAITING_BYTES = 32 << 20  # of all attempts, while the store does not keep up
URGENT_BYTES = 256 << 10  # are written without waiting for the next round
CHUNKS_A_WRITE = 128  # 8 MiB before compression
SILENCE = timedelta(minutes=10)  # behind which an attempt that never reported is forgotten


@dataclass(slots=True)
class _Pending:
    """What waits of one attempt, and what it has had of its cap."""

    attempt: Attempt
    number: int
    heard_at: datetime
    lines: list[LogLine] = field(default_factory=list)  # of the chunk that is being filled
    filled: int = 0  # its cost so far
    chunks: list[LogChunk] = field(default_factory=list)
    used: int = 0
    dropped: int = 0  # behind `lines`
    is_full: bool = False
    is_told: bool = False  # that it is full
    has_ended: bool = False

    def take(self, line: LogLine, cost: int) -> None:
        if self.dropped or self.filled + cost > MAX_CHUNK_BYTES:
            self.close()
        self.lines.append(line)
        self.filled += cost
        self.used += cost

    def close(self) -> None:
        self.is_told = self.is_full
        if self.lines or self.dropped:
            self.chunks.append(LogChunk(self.attempt, self.number, tuple(self.lines), self.dropped))
            self.used += CHUNK_COST
            self.lines, self.filled, self.dropped = [], 0, 0

    @property
    def is_due(self) -> bool:
        """A full attempt says at once that it is, and how much it dropped after that at its end: a row for each batch
        that is dropped would fill the store as the lines would."""
        has_news = not self.is_full or not self.is_told or self.has_ended
        return bool(self.lines or self.chunks or (self.dropped and has_news))


class LogBuffer:
    """Takes lines at once and writes them when it is flushed. Belongs to the admin's loop."""

    def __init__(self, store: RunLogs, wakeup: Wakeup, clock: Clock, caps: LogCaps) -> None:
        self._store = store
        self._wakeup = wakeup
        self._clock = clock
        self._caps = caps
        self._pending: dict[Attempt, _Pending] = {}
        self._dirty: dict[Attempt, _Pending] = {}  # of those, in which something may be due
        self._waiting_bytes = 0
        self._writing = asyncio.Lock()

    def add(self, attempt: Attempt, number: int, lines: Sequence[LogLine], dropped: int) -> None:
        """Lines of an attempt, and how many behind them its executor has dropped. What is too much is dropped."""
        now = self._clock()
        pending = self._pending.get(attempt)
        if pending is None:
            pending = self._pending[attempt] = _Pending(attempt, number, now)
        self._dirty[attempt] = pending
        pending.heard_at = now
        for line in lines:
            self._add_line(pending, line)
        pending.dropped += dropped
        if self._waiting_bytes >= URGENT_BYTES:
            self._wakeup.ring(BELL)

    def _add_line(self, pending: _Pending, line: LogLine) -> None:
        cost = line.cost
        pending.is_full = pending.is_full or pending.used + cost > self._caps.attempt_bytes
        if pending.is_full or self._waiting_bytes + cost > MAX_WAITING_BYTES:
            pending.dropped += 1
        else:
            pending.take(line, cost)
            self._waiting_bytes += cost

    async def finish(self, attempts: Collection[Attempt]) -> None:
        """The attempts have logged all: when this returns it is stored, unless the store is unavailable; then it is
        kept for the next round."""
        ended = [self._pending[attempt] for attempt in attempts if attempt in self._pending]
        if not ended:
            return
        self._end(ended)
        try:
            await self.flush()
        except ShardcastError as error:
            log.warning("log lines wait", action="log_lines_wait", error=str(error))

    def release(self) -> None:
        """Ends attempts of which nothing was heard for long: their executor is gone for good."""
        now = self._clock()
        self._end([pending for pending in self._pending.values() if now - pending.heard_at > SILENCE])

    async def flush(self) -> int:
        """Writes all that waits; the number of chunks. Raises StoreUnavailable, having kept what was not written. Goes
        on to its end when who asked is cut off: nobody else may write the same meanwhile.
        """
        return await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> int:
        written = 0
        async with self._writing:
            while some := self._some_due():
                await self._write(some)
                written += sum(count for _, count in some)
        return written

    async def close(self) -> None:
        """Writes what is left, if that can be."""
        try:
            await self.flush()
        except ShardcastError as error:
            log.warning("log lines lost", action="log_lines_lost", error=str(error))

    def _end(self, ended: Sequence[_Pending]) -> None:
        for pending in ended:
            pending.has_ended = True
            self._dirty[pending.attempt] = pending

    def _some_due(self) -> list[tuple[_Pending, int]]:
        """Attempts, and how many of their chunks are to be written together."""
        some: list[tuple[_Pending, int]] = []
        room = CHUNKS_A_WRITE
        for pending in list(self._dirty.values()):
            if not pending.is_due:
                self._settle(pending)
            elif room > 0:
                pending.close()
                count = min(len(pending.chunks), room)
                some.append((pending, count))
                room -= count
        return some

    def _settle(self, pending: _Pending) -> None:
        del self._dirty[pending.attempt]
        if pending.has_ended:
            del self._pending[pending.attempt]

    async def _write(self, some: Sequence[tuple[_Pending, int]]) -> None:
        chunks = [chunk for pending, count in some for chunk in pending.chunks[:count]]
        full = await self._store.add(chunks, self._clock(), self._caps.run_bytes)
        for pending, count in some:
            del pending.chunks[:count]
            if pending.attempt.run_id in full:
                pending.is_full = pending.is_told = True
        self._waiting_bytes -= sum(chunk.cost - CHUNK_COST for chunk in chunks)
        for run_id in {chunk.attempt.run_id for chunk in chunks}:
            self._wakeup.ring(bell_of(run_id))
