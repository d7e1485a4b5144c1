"""Reads the rows of one shard in batches, in constant memory, from any position on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

from executor.sharding.cursor import Cursor, Position
from executor.sharding.keys import Key
from executor.sharding.stretches import Stretch, remaining
from executor.sharding.table.pages import Pages
from executor.sharding.table.questions import Row
from protos.errors import InvalidArgument

BATCH_ROWS = 1_000
QUIET_PAGES = 16  # so many pages without a full batch end one, so that a takeover does not read them again
FIRST_PAGE = 1_024  # keys
LEAST_PAGE = 64
PAGE_SECONDS = 0.1  # what a page shall take; half or double of it is near enough


@dataclass(frozen=True, slots=True)
class Piece:
    """The next rows of the shard (none in an empty stretch), their keys and buckets, and where the scan stands behind
    them."""

    rows: Sequence[Row]
    position: Position
    keys: Sequence[Key] = ()
    buckets: Sequence[int | None] = ()

    def behind(self, index: int) -> Position:
        """Where the scan stands behind this row."""
        return self.position if index == len(self.rows) - 1 else Position(self.keys[index], self.buckets[index])

    def part(self, start: int, stop: int) -> "Piece":
        position = self.behind(stop - 1)
        return Piece(self.rows[start:stop], position, self.keys[start:stop], self.buckets[start:stop])


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


@dataclass(slots=True)
class _Waiting:
    """Rows that were read and are not handed out yet."""

    rows: list[Row] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    buckets: list[int | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Sequence[Row], keys: Sequence[Key], bucket: int | None) -> None:
        self.rows += rows
        self.keys += keys
        self.buckets += [bucket] * len(rows)

    def take(self, count: int, position: Position | None = None) -> Piece:
        """The first rows; the scan stands behind the last of them, or where it is said to."""
        rows, keys, buckets = self.rows[:count], self.keys[:count], self.buckets[:count]
        del self.rows[:count], self.keys[:count], self.buckets[:count]
        return Piece(rows, position or Position(keys[-1], buckets[-1]), keys, buckets)


def read_shard(
    pages: Pages,
    stretches: Iterator[Stretch],
    begin: Position,
    *,
    batch: int = BATCH_ROWS,
    monotonic: Callable[[], float],
    first_page: int = FIRST_PAGE,
) -> Iterator[Piece]:
    """The rows of the stretches from a position on; the last piece, perhaps empty, ends the scan.

    Pieces have `batch` rows, but the last one and those that end a long part in which the shard owns little.
    """
    if begin.is_done:
        return
    waiting, size, quiet = _Waiting(), min(first_page, pages.most), 0
    for stretch in remaining(stretches, begin):
        after, is_over = stretch.lower, False
        while not is_over:
            begun_at = monotonic()
            page = pages.read(stretch, after, size)
            size = next_size(size, monotonic() - begun_at, pages.most)
            after, is_over, quiet = page.behind, page.is_last, quiet + 1
            waiting.add(page.rows, page.keys, stretch.bucket)
            while len(waiting) > batch:
                quiet = 0
                yield waiting.take(batch)
            if quiet >= QUIET_PAGES:
                quiet = 0
                yield waiting.take(len(waiting), Position(after, stretch.bucket))
    yield waiting.take(len(waiting), Position(is_done=True))


def next_size(size: int, seconds: float, most: int) -> int:
    """How many keys the next page looks at, behind one that took so long: a slow database is asked for less."""
    if seconds > 2 * PAGE_SECONDS:
        return max(size // 2, min(LEAST_PAGE, most))
    if seconds < PAGE_SECONDS / 2:
        return min(size * 2, most)
    return size
