"""Publishes what a shard leads to: messages and cursor in one step, in one order, under one lock."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from broker.errors import Abandoned
from executor.errors import ScanRepeated
from executor.sharding.cursor import Cursor, Position, ShardCursor

T = TypeVar("T")


class Producer(Protocol):
    """The shard's producer at the broker, opened under the attempt's term."""

    log_id: str
    cursor: bytes | None

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]: ...

    async def flush(self) -> None: ...


class Guard(Protocol):
    """Says whether this attempt may still act."""

    def check(self) -> None:
        """Raises Cancelled once the attempt was stopped or its lease has lapsed."""

    async def unless_stopped(self, awaiting: Awaitable[T]) -> T:
        """Waits; raises Cancelled as soon as the attempt is stopped."""


@dataclass(slots=True)
class _Scan:
    """How many rows of a scan were handed out, and how many of them are published under their cursors.

    `passed` is where the scan stands behind a stretch without rows that follows all that was handed out.
    """

    handed: int = 0
    checkpointed: int = 0
    passed: Position | None = None


class ShardPublisher:
    """The one way out of an attempt, shared by all its scans and publishers.

    All coroutines run in the daemon's loop; `begin` and `hand_out` are called by the thread that reads the scan.
    """

    def __init__(self, producer: Producer, guard: Guard) -> None:
        """Raises BadCursor."""
        self._producer = producer
        self._guard = guard
        self._lock = asyncio.Lock()
        self._scans: dict[str, _Scan] = {}
        self._sent = self._acknowledged = self._begun = ShardCursor.decode(producer.cursor)
        self._rows_handed = self._sent.rows
        self._has_published = False

    @property
    def state(self) -> ShardCursor:
        """As of the last acknowledged publish; while nothing is published, with the rows handed out."""
        if self._has_published:
            return self._acknowledged
        return replace(self._acknowledged, rows=self._rows_handed)

    @property
    def gained(self) -> tuple[int, int]:
        """Rows handed out and messages acknowledged by this attempt alone."""
        return self._rows_handed - self._begun.rows, self._acknowledged.published - self._begun.published

    def begin(self, scan: str) -> Position:
        """Where the scan goes on. Raises ScanRepeated."""
        if scan in self._scans:
            raise ScanRepeated(scan=scan)
        self._scans[scan] = _Scan()
        return self._sent.scans.get(scan, Position())

    def hand_out(self, scan: str, position: Position, rows: int) -> Cursor:
        """The cursor of the scan's next rows, so many."""
        state = self._scans[scan]
        first, state.handed = state.handed, state.handed + rows
        state.passed = None
        self._rows_handed += rows
        return Cursor(scan, first, state.handed, position, self._rows_handed)

    async def publish(self, topic: str, messages: Sequence[Message], checkpoint: Cursor | None = None) -> None:
        """Sends one atomic publish behind all before it; waits while too many are unacknowledged.

        A caller that stops waiting does not undo it. Raises CheckpointOrder or TooLarge before anything is sent,
        Cancelled, and what the broker refused before.
        """
        await _to_its_end(self._publish(topic, messages, checkpoint))

    async def pass_over(self, scan: str, position: Position) -> None:
        """Keeps that a scan came past a stretch without rows: now, or with the last row that was handed out before."""
        await _to_its_end(self._pass_over(scan, position))

    async def flush(self) -> None:
        """Returns when everything sent is acknowledged. Raises what the broker refused, or Cancelled."""
        async with self._lock:  # behind what still waits for its turn
            self._guard.check()
            await self._guard.unless_stopped(self._producer.flush())

    async def _publish(self, topic: str, messages: Sequence[Message], checkpoint: Cursor | None) -> None:
        async with self._lock:
            if checkpoint is None:
                await self._send(topic, messages, replace(self._sent, rows=self._rows_handed), has_cursor=False)
                return
            scan = self._scans.get(checkpoint.scan, _Scan())
            checkpoint.check_follows(checkpoint.scan, scan.checkpointed)
            passed = scan.passed if checkpoint.last == scan.handed else None
            moved = self._moved(checkpoint.scan, passed or checkpoint.position, checkpoint.rows)
            await self._send(topic, messages, moved, checkpoint)
            scan.checkpointed = checkpoint.last

    async def _pass_over(self, scan: str, position: Position) -> None:
        async with self._lock:
            state = self._scans[scan]
            if state.checkpointed == state.handed:
                await self._send("", (), self._moved(scan, position, self._sent.rows))
            else:
                state.passed = position

    async def _send(
        self,
        topic: str,
        messages: Sequence[Message],
        state: ShardCursor,
        checkpoint: Cursor | None = None,
        *,
        has_cursor: bool = True,
    ) -> None:
        """Under the lock: `state` is where the shard stands once this is acknowledged."""
        self._guard.check()
        state = replace(state, published=state.published + len(messages))
        cursor = state.encode() if has_cursor else None
        receipts = await self._guard.unless_stopped(self._producer.publish(topic, messages, cursor))
        self._sent, self._has_published = state, True
        receipts.add_done_callback(partial(self._acknowledge, state, checkpoint))

    def _moved(self, scan: str, position: Position, rows: int) -> ShardCursor:
        return replace(self._sent, rows=rows, scans={**self._sent.scans, scan: position})

    def _acknowledge(self, state: ShardCursor, checkpoint: Cursor | None, receipts: asyncio.Future[Receipts]) -> None:
        if receipts.cancelled():
            return
        refusal = receipts.exception()
        if refusal is None:
            self._acknowledged = state
        elif checkpoint is not None and not isinstance(refusal, Abandoned):
            rows = f"rows {checkpoint.first} to {checkpoint.last - 1} of scan {checkpoint.scan}"
            refusal.add_note(
                f"Refused were the messages of {rows}, counted from 0, up to key {checkpoint.position.after!r}."
            )


async def _to_its_end(sending: Coroutine[None, None, None]) -> None:
    """Else a caller cancelled at the wrong moment would leave it open whether the broker gets the publish."""
    task = asyncio.ensure_future(sending)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.shield(task)
