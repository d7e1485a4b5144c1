"""Many rows in few statements: found, inserted, changed and deleted in the way that each database does fastest.

One statement a row costs a round trip on a server, and on SQLite a fight for the interpreter's lock at each step. The
texts are made here, and not by SQLAlchemy, because making and looking them up cost the scheduler half of its time.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Boolean, Column, Connection, Dialect, Integer, LargeBinary, Table
from sqlalchemy.types import TypeDecorator, TypeEngine

T = TypeVar("T")
Key = object | tuple[object, ...]
Values = Mapping[str, object]
Raw = Sequence[Any]
"""A row: plain values in the order of the columns."""


class Lock(enum.Enum):
    """What a query does to the rows that it finds; nothing on SQLite, where one transaction writes at a time."""

    NONE = ""
    WAIT = " FOR UPDATE"
    SKIP = " FOR UPDATE SKIP LOCKED"


MOST_CHARACTERS = 2_000_000  # of the rows of a statement; MariaDB takes 16 MiB of bytes
_SIZES = (256, 64, 16, 4, 1)  # rows of a statement: few texts, each compiled once


def fetch(
    connection: Connection,
    text: str,
    keys: Sequence[Key],
    *,
    before: tuple[object, ...] = (),
    lock: Lock = Lock.NONE,
) -> list[Raw]:
    """What a query finds for keys, which stand for `{keys}` in it: single values, or tuples of them. Each `{mark}` that
    stands before them is one of the values given as `before`. The last key stands there more than once where the number
    of keys is none of a few sizes.
    """
    found: list[Raw] = []
    sqlite = connection.dialect.name == "sqlite"
    for start in range(0, len(keys), _SIZES[0]):
        chunk = keys[start : start + _SIZES[0]]
        size = next(size for size in reversed(_SIZES) if size >= len(chunk))
        padded = (*chunk, *([chunk[-1]] * (size - len(chunk))))
        width = len(chunk[0]) if isinstance(chunk[0], tuple) else 0
        values = tuple(value for key in padded for value in key) if width else padded  # type: ignore[attr-defined]
        sql = _with_keys(text, size, width, sqlite) + ("" if sqlite else lock.value)
        found += connection.exec_driver_sql(sql, before + values).fetchall()
    return found


def delete(connection: Connection, table: Table, key: str, keys: Sequence[object]) -> None:
    """The rows that have these keys."""
    sqlite = connection.dialect.name == "sqlite"
    for chunk in sized(keys):
        text = f"DELETE FROM {table.name} WHERE {key} IN ({{keys}})"
        connection.exec_driver_sql(_with_keys(text, len(chunk), 0, sqlite), tuple(chunk))


@lru_cache(1024)
def _with_keys(text: str, count: int, width: int, sqlite: bool) -> str:
    mark = "?" if sqlite else "%s"
    one = f"({', '.join([mark] * width)})" if width else mark
    listed = ", ".join([one] * count)
    return text.replace("{mark}", mark).replace("{keys}", f"VALUES {listed}" if width and sqlite else listed)


def insert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Rows that have the same columns in the same order; values are those of the driver."""
    if not rows:
        return
    names, dialect = tuple(rows[0]), connection.dialect
    if dialect.name == "postgresql":
        connection.exec_driver_sql(_insert_unnested(table, names), _arrays(rows))
        return
    for chunk in _fitting(rows, dialect):
        connection.exec_driver_sql(_insert_values(table, names, len(chunk), _mark(dialect)), _flat(chunk))


def update(connection: Connection, table: Table, keys: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Changes the rows that have these keys; all rows name the same columns in the same order, the keys among them."""
    if not rows:
        return
    names, dialect = tuple(rows[0]), connection.dialect
    if dialect.name == "postgresql":
        connection.exec_driver_sql(_update_unnested(table, names, keys), _arrays(rows))
        return
    text = _update_values if dialect.name == "sqlite" else _update_joined
    for chunk in _fitting(rows, dialect):
        connection.exec_driver_sql(text(table, names, keys, len(chunk)), _flat(chunk))


def sized(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices of few different lengths."""
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def _fitting(rows: Sequence[Values], dialect: Dialect) -> Iterator[Sequence[Values]]:
    """Slices of few different lengths, none of which has more bytes than a server takes at once."""
    if dialect.name == "sqlite" or sum(map(_length, rows)) <= MOST_CHARACTERS:
        return sized(rows)
    return ([row] for row in rows)


def _length(row: Values) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def _flat(rows: Iterable[Values]) -> tuple[object, ...]:
    return tuple(chain.from_iterable(row.values() for row in rows))


def _arrays(rows: Sequence[Values]) -> tuple[list[object], ...]:
    """By column."""
    return tuple(map(list, zip(*(row.values() for row in rows), strict=True)))


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.name == "sqlite" else "%s"


@lru_cache(1024)
def _insert_values(table: Table, names: tuple[str, ...], count: int, mark: str) -> str:
    row = f"({', '.join([mark] * len(names))})"
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * count)}"


@lru_cache(1024)
def _update_values(table: Table, names: tuple[str, ...], keys: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' * len(names))})"
    columns = {name: f"v.column{number}" for number, name in enumerate(names, 1)}
    changes = ", ".join(f"{name} = {columns[name]}" for name in names if name not in keys)
    where = " AND ".join(f"{table.name}.{key} = {columns[key]}" for key in keys)
    return f"UPDATE {table.name} SET {changes} FROM (VALUES {', '.join([row] * count)}) AS v WHERE {where}"


@lru_cache(1024)
def _update_joined(table: Table, names: tuple[str, ...], keys: tuple[str, ...], count: int) -> str:
    first = ", ".join(f"%s AS {name}" for name in names)
    more = f" UNION ALL SELECT {', '.join(['%s'] * len(names))}" * (count - 1)
    changes = ", ".join(f"t.{name} = v.{name}" for name in names if name not in keys)
    where = " AND ".join(f"t.{key} = v.{key}" for key in keys)
    return f"UPDATE (SELECT {first}{more}) AS v STRAIGHT_JOIN {table.name} AS t ON {where} SET {changes}"


@lru_cache(1024)
def _insert_unnested(table: Table, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM {_unnested(table, names)}"


@lru_cache(1024)
def _update_unnested(table: Table, names: tuple[str, ...], keys: tuple[str, ...]) -> str:
    changes = ", ".join(f"{name} = v.{name}" for name in names if name not in keys)
    where = " AND ".join(f"t.{key} = v.{key}" for key in keys)
    return f"UPDATE {table.name} AS t SET {changes} FROM {_unnested(table, names)} WHERE {where}"


def _unnested(table: Table, names: tuple[str, ...]) -> str:
    arrays = ", ".join(f"%s::{_array(table.c[name])}" for name in names)
    return f"unnest({arrays}) AS v({', '.join(names)})"


def _array(column: Column[object]) -> str:
    plain: TypeEngine[object] = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    match plain:
        case Boolean():
            return "boolean[]"
        case BigInteger() | Integer():
            return "bigint[]"
        case LargeBinary():
            return "bytea[]"
        case _:
            return "text[]"
