"""Column types that the databases spell differently."""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import Dialect, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

UUID_BYTES = 16

LONG_TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # a plain text of MySQL ends at 64 KiB
LONG_BYTES = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")  # and so does a blob


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


def uuid_bytes(text: str) -> bytes:
    """What is no UUID becomes what no row has."""
    try:
        return bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return b""


def uuid_text(value: bytes) -> str:
    """Lower-case and hyphenated."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Code(TypeDecorator[StrEnum]):
    """A member of an enumeration: by its name in Python, a small number in the database.

    The numbers are kept in databases: a new member goes behind all others, and none goes.
    """

    impl = SmallInteger
    cache_ok = True

    def __init__(self, members: Mapping[int, StrEnum]) -> None:
        super().__init__()
        self.members = tuple(sorted(members.items()))
        self._of_code = dict(members)
        self._code_of = {member: code for code, member in members.items()}

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> int | None:
        return None if value is None else self._code_of[value]

    def process_result_value(self, value: int | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self._of_code[value]
