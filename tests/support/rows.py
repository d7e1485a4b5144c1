"""Rows of a scan without a table, and an attempt's shard around a producer that a test holds."""

from collections.abc import Sequence
from typing import cast

from executor.running.cancellation import Cancellation
from executor.running.publisher import AsyncPublisher
from executor.running.shard import AttemptShard
from executor.sharding.cursor import Cursor, Position
from executor.sharding.keys import Key
from executor.sharding.publish import Producer, ShardPublisher
from executor.sharding.scan import Piece, Rows
from executor.sharding.table.questions import Row
from executor.sharding.units import Limits


def some_rows(keys: Sequence[Key] = "abcd", first: int = 10, before: int = 100, scan: str = "s") -> Rows:
    """Rows, each its key, that end a scan; `first` others of this attempt and `before` of the shard came before."""
    end = Position(is_done=True)
    cursor = Cursor(scan, first, first + len(keys), end, before + len(keys))
    return Rows(a_piece(keys, end), cursor, "users")


def a_piece(keys: Sequence[Key], position: Position) -> Piece:
    """Rows, each its key."""
    return Piece(cast(list[Row], list(keys)), position, list(keys), [None] * len(keys))


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class LocalShard:
    """What a publisher needs of its attempt."""

    def __init__(self, producer: Producer, cancellation: Cancellation | None = None) -> None:
        self.cancellation = cancellation or Cancellation(float("inf"), lambda: 0.0)
        self.out = ShardPublisher(producer, self.cancellation)

    async def open(self) -> ShardPublisher:
        return self.out

    def rows(self, piece: Piece, scan: str = "s") -> Rows:
        """Hands out the rows of a piece, as the scan does."""
        return Rows(piece, self.out.hand_out(scan, piece.position, len(piece.rows)), "users")

    def batch(self, keys: Sequence[Key], scan: str = "s") -> Rows:
        """Hands out rows, each its key."""
        return self.rows(a_piece(keys, Position(keys[-1])), scan)

    def publisher(
        self, limits: Limits | None = None, pace: float | None = None, clock: Clock | None = None
    ) -> AsyncPublisher:
        return AsyncPublisher(cast(AttemptShard, self), "t", limits or Limits(), pace, clock or Clock())
