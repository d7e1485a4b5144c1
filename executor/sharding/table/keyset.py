"""Comparisons of whole keys, so that a page begins where the last one ended, whatever was inserted meanwhile."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from executor.sharding.keys import Key, Part, parts_of

Columns = Sequence[sa.ColumnElement[Any]]
Compare = Callable[[Any, Any], sa.ColumnElement[bool]]


class Keyset:
    """The columns of a key, in its order."""

    def __init__(self, columns: Columns, *, has_row_values: bool) -> None:
        """`has_row_values`: whether the database finds `(a, b) > (1, 2)` by an index, as SQLite and PostgreSQL do."""
        self.columns = columns
        self._has_row_values = has_row_values

    def behind(self, name: str) -> sa.ColumnElement[bool]:
        """The key is greater than the one that `given` binds under this name."""
        return self._compared(name, operator.gt, operator.gt)

    def not_before(self, name: str) -> sa.ColumnElement[bool]:
        """The key is at least the one that `given` binds under this name."""
        return self._compared(name, operator.gt, operator.ge)

    def not_beyond(self, name: str) -> sa.ColumnElement[bool]:
        """The key is at most the one that `given` binds under this name."""
        return self._compared(name, operator.lt, operator.le)

    def is_one_of(self, name: str) -> sa.ColumnElement[bool]:
        """The key is among the list that is bound under this name."""
        whole = self.columns[0] if len(self.columns) == 1 else sa.tuple_(*self.columns)
        return whole.in_(sa.bindparam(name, expanding=True))

    def given(self, name: str, key: Key) -> Mapping[str, Part]:
        """The values of a key for a comparison that was made with this name."""
        return {f"{name}_{number}": part for number, part in enumerate(parts_of(key))}

    def _compared(self, name: str, strict: Compare, last: Compare) -> sa.ColumnElement[bool]:
        """`strict` on every column but the last one, where all before it are equal, and `last` there."""
        given = [sa.bindparam(f"{name}_{i}", type_=column.type) for i, column in enumerate(self.columns)]
        if len(given) == 1:
            return last(self.columns[0], given[0])
        if self._has_row_values:
            return last(sa.tuple_(*self.columns), sa.tuple_(*given))
        return _spelt_out(self.columns, given, strict, last)


def _spelt_out(columns: Columns, given: Columns, strict: Compare, last: Compare) -> sa.ColumnElement[bool]:
    """`a > 1 OR a = 1 AND ...`, with a bound of the first column in front: MariaDB and MySQL find a range by that."""
    column, bound = columns[0], given[0]
    if len(columns) == 1:
        return last(column, bound)
    rest = _spelt_out(columns[1:], given[1:], strict, last)
    not_strict = operator.ge if strict is operator.gt else operator.le
    return sa.and_(not_strict(column, bound), sa.or_(strict(column, bound), sa.and_(column == bound, rest)))
