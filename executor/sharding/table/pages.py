"""How a page of a stretch is read: so many keys looked at, those rows among them handed out that the shard owns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from executor.errors import ForeignRow
from executor.model import Shard
from executor.sharding.hash import shards_of
from executor.sharding.keys import Key
from executor.sharding.plan import ScanPlan
from executor.sharding.stretches import Stretch
from executor.sharding.table.questions import Questions, Row
from executor.sharding.table.source import TableSource
from executor.sharding.table.sql_hash import shard_in_sql

ROWS_A_PAGE = 4_096  # at most, as far as that is known beforehand
KEYS_A_PAGE = 65_536


@dataclass(frozen=True, slots=True)
class Page:
    """The wanted rows among the keys that were looked at, rising, and the key of each.

    `behind` is the last key that was looked at; `is_last`: there are no more in the stretch.
    """

    rows: Sequence[Row]
    keys: Sequence[Key]
    behind: Key
    is_last: bool


class Pages(Protocol):
    """Reads stretches page by page."""

    @property
    def most(self) -> int:
        """How many keys one page may look at."""

    def read(self, stretch: Stretch, after: Key | None, limit: int) -> Page:
        """The next `limit` keys behind `after` (None: from the table's first on) up to the stretch's upper end."""


def pages_of(source: TableSource, plan: ScanPlan, shard: Shard) -> Pages:
    """The way of reading that serves a plan on this database."""
    is_hash = plan.strategy == "hash"
    if plan.bucket is not None or not is_hash or shard.total == 1:
        read = _in_full(Questions(source, plan.bucket.column if plan.bucket else None))
        return Checked(read, source.name, shard) if is_hash else read
    in_sql = shard_in_sql(source.dialect, source.key, shard.total)
    most = min(ROWS_A_PAGE * shard.total, KEYS_A_PAGE)
    if in_sql is None:
        return Hashed(Questions(source), shard, most)
    return Checked(Filtered(Questions(source, owned=in_sql == shard.index), most), source.name, shard)


def _in_full(questions: Questions) -> Pages:
    return Filtered(questions, ROWS_A_PAGE) if questions.is_filtered else Whole(questions)


class Whole:
    """All rows of a stretch are wanted: one question a page."""

    most = ROWS_A_PAGE

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def read(self, stretch: Stretch, after: Key | None, limit: int) -> Page:
        rows, keys = self._questions.rows(stretch, after, limit)
        behind = keys[-1] if keys else stretch.upper
        return Page(rows, keys, behind, is_last=len(rows) < limit or behind == stretch.upper)


class Filtered:
    """The database picks the rows, in a window of so many keys: else a filter that hardly any row passes would be one
    question about the whole table."""

    def __init__(self, questions: Questions, most: int) -> None:
        self._questions = questions
        self.most = most

    def read(self, stretch: Stretch, after: Key | None, limit: int) -> Page:
        end = self._questions.end(stretch, after, limit)
        if end is None:
            return Page((), (), stretch.upper, is_last=True)
        window, count = replace(stretch, upper=end[0]), end[1]
        rows, keys = self._questions.rows(window, after, limit) if count else ((), ())
        return Page(rows, keys, end[0], is_last=end[0] == stretch.upper)


class Hashed:
    """The keys are read alone, hashed here, and then the owned rows: for a database that knows no CRC-32."""

    def __init__(self, questions: Questions, shard: Shard, most: int) -> None:
        self._questions = questions
        self._shard = shard
        self.most = most

    def read(self, stretch: Stretch, after: Key | None, limit: int) -> Page:
        window = stretch
        if self._questions.is_filtered:
            end = self._questions.end(stretch, after, limit)
            if end is None:
                return Page((), (), stretch.upper, is_last=True)
            window = replace(stretch, upper=end[0])
        looked_at = self._questions.keys(window, after, limit)
        rows, keys = self._questions.rows_of(self._owned(looked_at))
        if self._questions.is_filtered:
            return Page(rows, keys, window.upper, is_last=window.upper == stretch.upper)
        behind = looked_at[-1] if looked_at else stretch.upper
        return Page(rows, keys, behind, is_last=len(looked_at) < limit or behind == stretch.upper)

    def _owned(self, keys: Sequence[Key]) -> Sequence[Key]:
        index, shards = self._shard.index, shards_of(keys, self._shard.total)
        return [key for key, shard in zip(keys, shards, strict=True) if shard == index]


class Checked:
    """Holds what another reads against `shard_of`: a bucket column may be wrong, and a database may tell a key's text
    otherwise than Python does."""

    def __init__(self, pages: Pages, table: str, shard: Shard) -> None:
        self._pages = pages
        self._table = table
        self._shard = shard

    @property
    def most(self) -> int:
        return self._pages.most

    def read(self, stretch: Stretch, after: Key | None, limit: int) -> Page:
        """Raises ForeignRow."""
        page = self._pages.read(stretch, after, limit)
        for key, owner in zip(page.keys, shards_of(page.keys, self._shard.total), strict=True):
            if owner != self._shard.index:
                raise ForeignRow(table=self._table, key=key, owner=owner, index=self._shard.index)
        return page
