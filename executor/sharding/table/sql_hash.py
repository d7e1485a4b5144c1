"""`shard_of` as the database says it, where it knows CRC-32."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

CRC32_SINCE = (18,)  # of PostgreSQL; https://www.postgresql.org/docs/18/functions-binarystring.html


def shard_in_sql(dialect: sa.Dialect, columns: Sequence[sa.Column[object]], total: int) -> sa.ColumnElement[int] | None:
    """The key's shard among `total`; None where the database cannot say it as `shard_of` does, or says it slower.

    SQLite could by a function of ours, which takes as long as reading the keys and hashing them here.
    """
    if not all(_is_told_alike(column.type) for column in columns):
        return None
    if dialect.name == "postgresql" and (dialect.server_version_info or ()) >= CRC32_SINCE:
        texts = [sa.cast(column, postgresql.TEXT) for column in columns]
        text = _joined(texts, sa.literal_column("chr(31)"))
        return sa.cast(sa.func.crc32(sa.func.convert_to(text, sa.literal_column("'UTF8'"))), sa.BigInteger) % total
    if dialect.name in ("mysql", "mariadb"):
        texts = [sa.cast(column, mysql.CHAR(charset="utf8mb4")) for column in columns]
        return sa.func.crc32(_joined(texts, sa.literal_column("CHAR(31 USING utf8mb4)")), type_=sa.BigInteger) % total
    return None


def _is_told_alike(kind: sa.types.TypeEngine[object]) -> bool:
    """Whether the database's text of a value is Python's: not so where it pads or keeps names of an enumeration."""
    if isinstance(kind, sa.CHAR | sa.NCHAR | sa.Enum):
        return False
    return isinstance(kind, sa.Integer | sa.String) or (isinstance(kind, sa.Uuid) and kind.native_uuid)


def _joined(texts: Sequence[sa.ColumnElement[str]], separator: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return texts[0] if len(texts) == 1 else sa.func.concat_ws(separator, *texts)
