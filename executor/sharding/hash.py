"""Which shard owns a row: a hash that is the same in every process, release and language."""

import zlib
from uuid import UUID

from executor.errors import UnfitKey

Part = int | str | UUID
Id = Part | bytes | tuple[Part, ...]

_SEPARATOR = "\x1f"


def stable_hash(id: Id) -> int:
    """CRC-32 of the id as text in UTF-8: an unsigned 32-bit number.

    Integers count as their decimal text, UUIDs as lower-case hyphenated text, bytes as they are, a composite key as its
    parts' texts joined by U+001F. Raises UnfitKey for other types, also for bool and float.
    """
    try:
        return zlib.crc32(_encoded(id))
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise UnfitKey(what=f"{id!r}, which is no text in UTF-8,") from error


def shard_of(id: Id, total: int) -> int:
    """The index, from 0, of the shard among `total` that owns the row with this id."""
    if total < 1:
        raise ValueError("a run has at least one shard")
    return stable_hash(id) % total


def _encoded(id: Id) -> bytes:
    if isinstance(id, bytes):
        return id
    if isinstance(id, tuple) and id:
        return _SEPARATOR.join(map(_text, id)).encode()
    return _text(id).encode()


def _text(part: object) -> str:
    if isinstance(part, bool) or not isinstance(part, int | str | UUID):
        raise UnfitKey(what=f"{part!r} of type {type(part).__name__}")
    return str(part)
