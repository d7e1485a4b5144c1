"""Which shard owns a row: a hash that is the same in every process, release and language."""

import zlib
from collections.abc import Sequence
from uuid import UUID

from executor.errors import UnfitKey
from executor.sharding.keys import Key

Part = int | str | UUID
Id = Part | bytes | tuple[Part, ...]

SEPARATOR = "\x1f"


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


def shards_of(keys: Sequence[Key], total: int) -> list[int]:
    """`shard_of` for a whole page, which are mostly of one type. Raises UnfitKey."""
    if set(map(type, keys)) <= {int, str}:
        crc32 = zlib.crc32
        try:
            return [crc32(str(key).encode()) % total for key in keys]
        except UnicodeEncodeError:  # told apart by key below
            pass
    return [shard_of(key, total) for key in keys]  # type: ignore[arg-type]  # which refuses what is no Id


def _encoded(id: Id) -> bytes:
    if isinstance(id, bytes):
        return id
    if isinstance(id, tuple) and id:
        return SEPARATOR.join(map(_text, id)).encode()
    return _text(id).encode()


def _text(part: object) -> str:
    if isinstance(part, bool) or not isinstance(part, int | str | UUID):
        raise UnfitKey(what=f"{part!r} of type {type(part).__name__}")
    return str(part)
