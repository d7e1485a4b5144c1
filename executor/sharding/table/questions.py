"""What is asked of a table: short questions about a stretch of its keys, each bounded by a number of keys."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import result_tuple

from executor.sharding.keys import Key, key_of
from executor.sharding.stretches import Stretch
from executor.sharding.table.source import TableSource

Row = sa.Row[*tuple[object, ...]]
Found = tuple[Sequence[Row], Sequence[Key]]
"""Rows, rising by key, and the key of each."""

UPPER, AFTER, BUCKET, KEYS, MOST = (f"scan_{name}" for name in ("upper", "after", "bucket", "keys", "most"))
"""Parameters of statements; a filter may have others beside them."""
KEYS_A_QUESTION = 1_000  # of rows that are asked for by their keys


class Questions:
    """Asks one table for keys and rows: those behind a key (None: from the first on) up to the end of a stretch."""

    def __init__(
        self, source: TableSource, bucket: str | None = None, *, owned: sa.ColumnElement[bool] | None = None
    ) -> None:
        """`bucket` is the column that stretches of buckets are found by; `owned` filters beside the source's filter."""
        self._source = source
        self._bucket = None if bucket is None else source.column(bucket)
        self._filters = [condition for condition in (source.where, owned) if condition is not None]
        hidden = [column for column in source.key if column not in source.wanted]
        self._columns = [*source.wanted, *hidden]
        self._hidden = len(hidden)
        self._key_at = [self._columns.index(column) for column in source.key]
        self._row = result_tuple([column.key for column in source.wanted])
        is_integer = len(source.key) == 1 and isinstance(source.key[0].type, sa.Integer)
        self._are_packed = source.dialect.name == "sqlite" and is_integer
        """Its driver lets go of the interpreter for each row, and threads that scan at once then fight for it: keys
        alone, which are many, come as one row.
        """
        self._ends = {is_behind: self._end(is_behind) for is_behind in (False, True)}

    @property
    def is_filtered(self) -> bool:
        return bool(self._filters)

    def keys(self, stretch: Stretch, after: Key | None, limit: int) -> list[Key]:
        """At most so many keys of wanted rows."""
        key, given = self._source.key, self._given(stretch, after)
        asked = sa.select(*key).where(*self._filters, *self._within(after is not None)).order_by(*key).limit(limit)
        with self._source.reading() as connection:
            if self._are_packed:
                packed = sa.select(sa.func.json_group_array(asked.subquery().c[0]))
                return _unpacked(str(connection.execute(packed, given).scalar_one()))
            found = connection.execute(asked, given).all()
        return [cast(Key, row[0]) for row in found] if len(key) == 1 else list(map(key_of, found))

    def rows(self, stretch: Stretch, after: Key | None, limit: int) -> Found:
        """At most so many wanted rows."""
        key = self._source.key
        if self._are_packed and self._columns == key:
            return self.rows_of(self.keys(stretch, after, limit))
        asked = sa.select(*self._columns).where(*self._filters, *self._within(after is not None))
        with self._source.reading() as connection:
            return self._split(connection.execute(asked.order_by(*key).limit(limit), self._given(stretch, after)).all())

    def rows_of(self, keys: Sequence[Key]) -> Found:
        """The rows with these keys; one that was deleted meanwhile is not among them."""
        if self._columns == self._source.key:
            return [self._row(key if isinstance(key, tuple) else (key,)) for key in keys], keys
        asked = sa.select(*self._columns).where(self._source.keyset.is_one_of(KEYS)).order_by(*self._source.key)
        rows: list[sa.Row[Any]] = []
        for start in range(0, len(keys), KEYS_A_QUESTION):
            with self._source.reading() as connection:
                rows += connection.execute(asked, {KEYS: keys[start : start + KEYS_A_QUESTION]}).all()
        return self._split(rows)

    def end(self, stretch: Stretch, after: Key | None, limit: int) -> tuple[Key, int] | None:
        """The last of the next `limit` keys, wanted or not, and how many are wanted; None: there are no more."""
        given = {**self._given(stretch, after), MOST: limit}
        with self._source.reading() as connection:
            found = connection.execute(self._ends[after is not None], given).first()
        if found is None or found[0] is None:
            return None
        *last, wanted = found
        return key_of(last), int(wanted)

    def _end(self, is_behind: bool) -> sa.Select[Any]:
        """Made once: a plan asks it thousands of times, and making it takes five times as long as asking SQLite."""
        key = self._source.key
        is_wanted: sa.ColumnElement[Any] = sa.literal_column("1")
        if self._filters:
            is_wanted = sa.case((sa.and_(*self._filters), 1), else_=0)
        looked_at = sa.select(*(column.label(f"key_{i}") for i, column in enumerate(key)), is_wanted.label("is_wanted"))
        most = sa.bindparam(MOST, type_=sa.Integer)
        return self._last_of(looked_at.where(*self._within(is_behind)).order_by(*key).limit(most).subquery())

    def _last_of(self, looked_at: sa.Subquery) -> sa.Select[Any]:
        *last, is_wanted = looked_at.columns
        if len(last) == 1 and isinstance(last[0].type, sa.Integer | sa.String):
            return sa.select(sa.func.max(last[0]), sa.func.sum(is_wanted))
        rising = (sa.desc(column) for column in last)  # not every type has a greatest value that can be asked for
        return sa.select(*last, sa.func.sum(is_wanted).over()).order_by(*rising).limit(1)

    def _within(self, is_behind: bool) -> list[sa.ColumnElement[bool]]:
        keyset = self._source.keyset
        conditions = [keyset.not_beyond(UPPER)]
        if is_behind:
            conditions.append(keyset.behind(AFTER))
        if self._bucket is not None:
            conditions.append(self._bucket == sa.bindparam(BUCKET, type_=self._bucket.type))
        return conditions

    def _given(self, stretch: Stretch, after: Key | None) -> Mapping[str, object]:
        keyset = self._source.keyset
        behind = {} if after is None else keyset.given(AFTER, after)
        bucket = {} if self._bucket is None else {BUCKET: stretch.bucket}
        return {**keyset.given(UPPER, stretch.upper), **behind, **bucket}

    def _split(self, rows: Sequence[sa.Row[Any]]) -> Found:
        if len(self._key_at) == 1:
            at = self._key_at[0]
            keys = [cast(Key, row[at]) for row in rows]
        else:
            keys = [cast(Key, tuple(row[at] for at in self._key_at)) for row in rows]
        if self._hidden:
            return [self._row(row[: -self._hidden]) for row in rows], keys
        return rows, keys


def _unpacked(text: str) -> list[Key]:
    keys: list[Key] = json.loads(text)
    if set(map(type, keys)) == {int}:
        keys.sort()  # SQLite promises no order within an aggregate, and keeps it
    return keys
