"""The tables of the limits, one for each kind of state; docs/limits.md shows them to operators."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from executor.limits.changing import State
from executor.limits.names import MAX_NAME
from executor.limits.rules import Bucket, Claim, Hits

METADATA = sa.MetaData()

_NAME = (
    sa.String(MAX_NAME)
    .with_variant(sa.String(MAX_NAME, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(MAX_NAME, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
)
"""Compared byte by byte, so that its order is Python's."""


def _table(name: str, *columns: sa.Column[str] | sa.Column[int]) -> sa.Table:
    expires = sa.Column("expires_at_us", sa.BigInteger, nullable=False, index=True)
    return sa.Table(name, METADATA, sa.Column("name", _NAME, primary_key=True), *columns, expires)


BOOKS: Mapping[type[State], sa.Table] = {
    Claim: _table(
        "shardcast_once",
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("lapses_at_us", sa.BigInteger, nullable=False),
    ),
    Bucket: _table("shardcast_rates", sa.Column("full_at_us", sa.BigInteger, nullable=False)),
    Hits: _table("shardcast_caps", sa.Column("hits", sa.Text, nullable=False)),
}
"""Their columns behind the name are the fields of the states, in that order."""


def locked(table: sa.Table, names: Sequence[str], dialect: str) -> sa.Executable:
    """The rows of these names, locked in the order of the names."""
    if dialect == "postgresql":  # one parameter, whatever the number of names
        is_wanted = table.c.name == sa.any_(sa.bindparam(None, names, type_=postgresql.ARRAY(table.c.name.type)))
    else:
        is_wanted = table.c.name.in_(names)
    return sa.select(table).where(is_wanted).order_by(table.c.name).with_for_update()


def keep(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[str | int]], *, are_new: bool) -> None:
    """Writes rows in one statement, or one round trip, with every driver. Of new ones none may be there already."""
    columns = table.c.keys()
    if connection.dialect.name == "postgresql":
        connection.execute(
            _unnested(table, are_new), dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
        )
        return
    statement = sa.insert(table) if are_new else _upsert(table, connection.dialect.name)
    connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows])


def _upsert(table: sa.Table, dialect: str) -> sa.Insert:
    if dialect == "sqlite":
        ours = sqlite.insert(table)
        return ours.on_conflict_do_update(index_elements=[table.c.name], set_=_but_name(ours.excluded))
    mine = mysql.insert(table)
    return mine.on_duplicate_key_update(_but_name(mine.inserted))


def _unnested(table: sa.Table, are_new: bool) -> sa.Insert:
    """Takes a list for each column."""
    lists = [sa.func.unnest(sa.bindparam(each.name, type_=postgresql.ARRAY(each.type))) for each in table.c]
    statement = postgresql.insert(table).from_select(table.c.keys(), sa.select(*lists))
    if are_new:
        return statement
    return statement.on_conflict_do_update(index_elements=[table.c.name], set_=_but_name(statement.excluded))


def _but_name(new: ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]) -> dict[str, object]:
    return {name: column for name, column in new.items() if name != "name"}
