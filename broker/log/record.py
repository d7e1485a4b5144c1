"""A record: one message as stored, and the 20-byte index entry that points at it.

    size u32 | key u16 | tag u8 | attributes u32 | stored_at_ms i64 | key | tag | attributes | body

Little-endian; `size` counts the whole record, the next three are lengths in bytes. Whole runs are encoded by functions
that run in C over columns: a loop over single messages would cost more than everything else a publish does.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, repeat

_HEADER = struct.Struct("<IHBIq")
HEADER_BYTES = _HEADER.size
_ENTRY = struct.Struct("<QIQ")
ENTRY_BYTES = _ENTRY.size


@dataclass(frozen=True, slots=True)
class Records:
    """Messages of one queue, encoded back to back."""

    data: bytes
    sizes: Sequence[int]
    tag_hashes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Columns:
    """Messages as columns: keys and tags are none at all or one each, attributes by index."""

    bodies: Sequence[bytes]
    keys: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    attributes: Mapping[int, bytes] = field(default_factory=dict)


def encode_records(columns: Columns, stored_at_ms: int) -> Records:
    """All messages of the columns, in their order."""
    count = len(columns.bodies)
    keys = columns.keys or [b""] * count
    tags = columns.tags or [b""] * count
    attributes = [columns.attributes.get(index, b"") for index in range(count)] if columns.attributes else [b""] * count
    variable = (keys, tags, attributes, columns.bodies)
    key_sizes, tag_sizes, attribute_sizes, body_sizes = ([*map(len, column)] for column in variable)
    rows = zip(key_sizes, tag_sizes, attribute_sizes, body_sizes, strict=True)
    sizes = [HEADER_BYTES + key + tag + attributes_size + body for key, tag, attributes_size, body in rows]
    headers = map(_HEADER.pack, sizes, key_sizes, tag_sizes, attribute_sizes, repeat(stored_at_ms))
    data = b"".join(chain.from_iterable(zip(headers, *variable, strict=True)))
    return Records(data, sizes, _hashes(columns.tags, count))


def _hashes(tags: Sequence[bytes], count: int) -> Sequence[int]:
    if not tags:
        return [0] * count
    if tags.count(tags[0]) == count:  # as good as always one tag for all
        return [tag_hash(tags[0])] * count
    return [*map(tag_hash, tags)]


def tag_hash(tag: bytes) -> int:
    """What the index keeps of a tag, to filter without reading records; 0 is no tag."""
    return zlib.crc32(tag)


def encode_entries(records: Records, position: int) -> bytes:
    """Index entries of records that lie back to back from `position` on."""
    positions = accumulate(records.sizes, initial=position)
    return b"".join(map(_ENTRY.pack, positions, records.sizes, records.tag_hashes))


def decode_entries(entries: bytes) -> Iterator[tuple[int, int, int]]:
    """(position, size, hash of the tag) of each entry."""
    return _ENTRY.iter_unpack(entries)


def decode_records(pieces: Iterable[tuple[bytes, Sequence[int]]]) -> tuple[Columns, list[int]]:
    """The records that begin at the given places of each piece, as columns, and when each was stored.

    Keys and tags are none at all or one each.
    """
    bodies, keys, tags, times = list[bytes](), list[bytes](), list[bytes](), list[int]()
    attributes = dict[int, bytes]()
    for data, starts in pieces:
        for start in starts:
            size, key_size, tag_size, attributes_size, stored_at_ms = _HEADER.unpack_from(data, start)
            tag_at = start + HEADER_BYTES + key_size
            body_at = tag_at + tag_size
            if attributes_size:
                attributes[len(bodies)] = data[body_at : body_at + attributes_size]
                body_at += attributes_size
            keys.append(data[tag_at - key_size : tag_at])
            tags.append(data[tag_at : tag_at + tag_size])
            bodies.append(data[body_at : start + size])
            times.append(stored_at_ms)
    return Columns(bodies, keys if any(keys) else (), tags if any(tags) else (), attributes), times


def rebuild_entries(data: bytes, start: int, count: int, position: int) -> bytes:
    """Index entries of `count` records that begin at `start` of `data` and lie at `position` of the log."""
    entries = []
    for _ in range(count):
        size, key, tag, _, _ = _HEADER.unpack_from(data, start)
        tag_at = start + HEADER_BYTES + key
        entries.append(_ENTRY.pack(position, size, tag_hash(data[tag_at : tag_at + tag])))
        start += size
        position += size
    return b"".join(entries)
