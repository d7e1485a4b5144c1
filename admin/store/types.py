"""Column types that the databases spell differently."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Dialect, LargeBinary, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

UUID_BYTES = 16
_EPOCH = datetime.fromtimestamp(0, UTC)
NUL = "\x00"

LONG_TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # a plain text of MySQL ends at 64 KiB
LONG_BYTES = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")  # and so does a blob


UUID = LargeBinary(UUID_BYTES).with_variant(mysql.BINARY(UUID_BYTES), "mysql", "mariadb")
"""A UUID as 16 bytes, in Python too; where thousands a second are read."""


class UuidBytes(TypeDecorator[str]):
    """A UUID: text in Python, 16 bytes in the database, which order as the texts do."""

    impl = LargeBinary(UUID_BYTES)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[bytes]:
        wanted = mysql.BINARY(UUID_BYTES) if dialect.name in ("mysql", "mariadb") else LargeBinary(UUID_BYTES)
        return dialect.type_descriptor(wanted)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else uuid_bytes(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else uuid_text(value)


def is_storable(text: str) -> bool:
    """Whether a row can have it: PostgreSQL keeps no text with a NUL in it, and refuses to look for one."""
    return NUL not in text


def uuid_bytes(text: str) -> bytes:
    """What is no UUID becomes what no row has."""
    try:
        return bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return b""


def first_uuid(at: datetime) -> bytes:
    """Those that are made later, which begin with the time, are behind it."""
    ms = max(0, (at - _EPOCH) // timedelta(milliseconds=1))
    return min(ms, 2**48 - 1).to_bytes(6, "big") + bytes(10)


def uuid_text(value: bytes) -> str:
    """Lower-case and hyphenated."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
