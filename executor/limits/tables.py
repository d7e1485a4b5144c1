"""The tables of the limits, one for each kind of state; docs/limits.md shows them to operators."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

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


def upsert(table: sa.Table, dialect: str) -> sa.Insert:
    """Replaces rows by name; many at once are one statement, or one round trip, with every driver."""
    if dialect == "mysql":
        mine = mysql.insert(table)
        return mine.on_duplicate_key_update({c.name: mine.inserted[c.name] for c in table.c if not c.primary_key})
    other = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    new = {column.name: other.excluded[column.name] for column in table.c if not column.primary_key}
    return other.on_conflict_do_update(index_elements=[table.c.name], set_=new)
