"""Reads the rows of one shard in batches: keys page by page, and then only the rows that the shard owns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload
from zlib import crc32

import sqlalchemy as sa

from executor.errors import UnfitKey
from executor.model import Shard
from executor.sharding.cursor import Cursor, Key, Position
from protos.errors import InvalidArgument

Row = sa.Row[*tuple[object, ...]]

BATCH_ROWS = 1_000
PAGE_KEYS = 10_000
QUIET_PAGES = 16  # so many pages without a full batch end one, so that a takeover does not read them again


class Source(Protocol):
    """What a scan reads from."""

    def keys(self, after: Key | None, upper: Key, limit: int) -> list[Key]: ...

    def rows(self, keys: Sequence[Key]) -> tuple[Sequence[Row], Sequence[Key]]: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """The next rows of the shard (none in an empty stretch), where the scan stands behind them, and their keys."""

    rows: Sequence[Row]
    position: Position
    keys: Sequence[Key] = ()

    def behind(self, index: int) -> Position:
        """Where the scan stands behind this row."""
        return self.position if index == len(self.rows) - 1 else Position(self.keys[index])

    def part(self, start: int, stop: int) -> "Piece":
        return Piece(self.rows[start:stop], self.behind(stop - 1), self.keys[start:stop])


class Rows(Sequence[Row]):
    """A batch of rows of `table` with their columns as attributes; `cursor` is the checkpoint to publish it under."""

    __slots__ = ("_piece", "_rows", "cursor", "table")

    def __init__(self, piece: Piece, cursor: Cursor, table: str) -> None:
        self._piece = piece
        self._rows = piece.rows
        self.cursor = cursor
        self.table = table

    def part(self, start: int, stop: int) -> "Rows":
        """The rows from `start` up to, not including, `stop`, at least one, with a cursor of their own.

        Parts are published in their order, each under its cursor. Raises InvalidArgument.
        """
        if not 0 <= start < stop <= len(self):
            raise InvalidArgument(reason=f"of {len(self)} rows those from {start} up to {stop} are no part")
        piece = self._piece.part(start, stop)
        return Rows(piece, self.cursor.part(start, stop, piece.position), self.table)

    def key(self, index: int) -> Key:
        """What names this row in its table."""
        return self._piece.keys[index]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)


def owned(keys: Sequence[Key], shard: Shard) -> list[Key]:
    """Those keys that the shard owns: `shard_of` for a whole page. Raises UnfitKey."""
    if unfit := {type(key) for key in keys} - {int, str}:
        raise UnfitKey(what=f"A value of type {', '.join(sorted(kind.__name__ for kind in unfit))}")
    index, total = shard.index, shard.total
    return [key for key in keys if crc32(str(key).encode()) % total == index]


def read_shard(
    source: Source,
    upper: Key | None,
    shard: Shard,
    begin: Position,
    *,
    batch: int = BATCH_ROWS,
    page: int = PAGE_KEYS,
) -> Iterator[Piece]:
    """The rows of the shard from a position on, in constant memory; the last piece, perhaps empty, ends the scan.

    Pieces have `batch` rows, but the last one and those that end a long stretch in which the shard owns little.
    """
    if begin.is_done:
        return
    waiting: list[Key] = []
    after, is_over, quiet = begin.after, upper is None, 0
    while upper is not None and not is_over:
        keys = source.keys(after, upper, page)
        is_over = len(keys) < page or keys[-1] == upper
        after = keys[-1] if keys else after
        waiting += owned(keys, shard)
        quiet += 1
        while len(waiting) >= batch and (len(waiting) > batch or not is_over):
            yield _piece(source, waiting[:batch], Position(waiting[batch - 1]))
            waiting, quiet = waiting[batch:], 0
        if quiet >= QUIET_PAGES and not is_over:
            yield _piece(source, waiting, Position(after))
            waiting, quiet = [], 0
    yield _piece(source, waiting, Position(is_done=True))


def _piece(source: Source, keys: Sequence[Key], position: Position) -> Piece:
    rows, found = source.rows(keys) if keys else ((), ())
    return Piece(rows, position, found)
