"""Reads the rows of one shard in batches: keys page by page, and then only the rows that the shard owns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload
from zlib import crc32

import sqlalchemy as sa

from executor.errors import UnfitKey
from executor.model import Shard
from executor.sharding.cursor import Cursor, Key, Position

Row = sa.Row[*tuple[object, ...]]

BATCH_ROWS = 1_000
PAGE_KEYS = 10_000
QUIET_PAGES = 16  # so many pages without a full batch end one, so that a takeover does not read them again


class Source(Protocol):
    """What a scan reads from."""

    def keys(self, after: Key | None, upper: Key, limit: int) -> list[Key]: ...

    def rows(self, keys: Sequence[Key]) -> Sequence[Row]: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """The next rows of the shard (none in an empty stretch) and where the scan stands behind them."""

    rows: Sequence[Row]
    position: Position


class Rows(Sequence[Row]):
    """A batch of rows with their columns as attributes; `cursor` is the checkpoint to publish it under."""

    __slots__ = ("_rows", "cursor")

    def __init__(self, rows: Sequence[Row], cursor: Cursor) -> None:
        self._rows = rows
        self.cursor = cursor

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
            yield Piece(source.rows(waiting[:batch]), Position(waiting[batch - 1]))
            waiting, quiet = waiting[batch:], 0
        if quiet >= QUIET_PAGES and not is_over:
            yield Piece(source.rows(waiting) if waiting else (), Position(after))
            waiting, quiet = [], 0
    yield Piece(source.rows(waiting) if waiting else (), Position(is_done=True))
