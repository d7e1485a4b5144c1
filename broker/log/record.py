"""A record: one message as stored, and the 20-byte index entry that points at it.

    crc u32 | size u32 | key u16 | tag u8 | attributes u32 | stored_at_ms i64 | key | tag | attributes | body

Little-endian; `crc` (CRC-32) covers everything behind it, `size` counts the whole record, the next three are lengths in
bytes. Whole runs are encoded and decoded by functions that run in C over columns: a loop over single messages would
cost more than everything else a publish or a fetch does.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, repeat, takewhile
from operator import add, eq
from typing import NamedTuple

from broker.log.attributes import is_ordered

_CRC = struct.Struct("<I")
_SIZE = struct.Struct("<I")
_COVERED = struct.Struct("<IHBIq")  # the part of the header that the CRC covers
_HEADER = struct.Struct("<IIHBIq")
HEADER_BYTES = _HEADER.size
_ENTRY = struct.Struct("<QIII")  # position, size, hash of the tag, lane
_PLACE = struct.Struct("<QII4x")
ENTRY_BYTES = _ENTRY.size


class Records(NamedTuple):
    """Messages of one queue, encoded back to back."""

    data: bytes
    sizes: Sequence[int]
    tag_hashes: Sequence[int]
    lanes: Sequence[int] = ()
    """One each, or none at all where no message is ordered."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Messages as columns: keys and tags are none at all or one each, attributes by index."""

    bodies: Sequence[bytes]
    keys: Sequence[bytes] = ()
    tags: Sequence[bytes] = ()
    attributes: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the log, where in them records begin, and how many bytes each record has."""

    data: bytes
    starts: Sequence[int]
    sizes: Sequence[int]


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
    headers = map(_COVERED.pack, sizes, key_sizes, tag_sizes, attribute_sizes, repeat(stored_at_ms))
    covered = [*map(b"".join, zip(headers, *variable, strict=True))]
    crcs = map(_CRC.pack, map(zlib.crc32, covered))
    data = b"".join(chain.from_iterable(zip(crcs, covered, strict=True)))
    return Records(data, sizes, _hashes(columns.tags, count), _lanes(columns))


def _hashes(tags: Sequence[bytes], count: int) -> Sequence[int]:
    if not tags:
        return [0] * count
    if tags.count(tags[0]) == count:  # as good as always one tag for all
        return [tag_hash(tags[0])] * count
    return [*map(tag_hash, tags)]


def tag_hash(tag: bytes) -> int:
    """What the index keeps of a tag, to filter without reading records; 0 is no tag."""
    return zlib.crc32(tag)


def _lanes(columns: Columns) -> Sequence[int]:
    if not columns.keys or not columns.attributes:
        return ()
    lanes = [_lane(key, columns.attributes.get(index, b"")) for index, key in enumerate(columns.keys)]
    return lanes if any(lanes) else ()


def _lane(key: bytes, attributes: bytes) -> int:
    """What the index keeps of an ordered message's key: equal keys share a lane, few others do; 0 is not ordered."""
    return zlib.crc32(key) | 1 if key and is_ordered(attributes) else 0


def record_size(header: bytes) -> int:
    """The size that a record's first bytes claim; 0 if they are too few."""
    return int(_SIZE.unpack_from(header, _CRC.size)[0]) if len(header) >= HEADER_BYTES else 0


def encode_entries(records: Records, position: int) -> bytes:
    """Index entries of records that lie back to back from `position` on."""
    positions = accumulate(records.sizes, initial=position)
    return b"".join(map(_ENTRY.pack, positions, records.sizes, records.tag_hashes, records.lanes or repeat(0)))


def decode_entries(entries: bytes) -> Iterator[tuple[int, int, int]]:
    """(position, size, hash of the tag) of each entry."""
    return _PLACE.iter_unpack(entries)


def decode_lanes(entries: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(position, size, hash of the tag, lane) of each entry."""
    return _ENTRY.iter_unpack(entries)


def decode_records(pieces: Iterable[Piece]) -> tuple[Columns, list[int]]:
    """The records of the pieces as columns, and when each was stored; nothing from the first damaged one on.

    Keys and tags are none at all or one each.
    """
    bodies, keys, tags, times = list[bytes](), list[bytes](), list[bytes](), list[int]()
    attributes = dict[int, bytes]()
    for piece in pieces:
        whole, headers = _whole_records(piece)
        if whole:
            _, _, key_sizes, tag_sizes, attribute_sizes, stored_at_ms = headers
            key_ends = [_COVERED.size + size for size in key_sizes]
            tag_ends = [*map(add, key_ends, tag_sizes)]
            body_starts = [*map(add, tag_ends, attribute_sizes)]
            for index in compress(range(len(whole)), attribute_sizes):
                attributes[len(bodies) + index] = whole[index][tag_ends[index] : body_starts[index]]
            keys += _column(whole, repeat(_COVERED.size), key_ends) if any(key_sizes) else [b""] * len(whole)
            tags += _column(whole, key_ends, tag_ends) if any(tag_sizes) else [b""] * len(whole)
            bodies += _column(whole, body_starts, repeat(None))
            times += stored_at_ms
        if len(whole) < len(piece.starts):
            break
    return Columns(bodies, keys if any(keys) else (), tags if any(tags) else (), attributes), times


def columns_of(records: Records) -> Columns:
    """The messages of records that lie back to back; nothing from the first damaged one on."""
    starts = [*accumulate(records.sizes, initial=0)][:-1]
    return decode_records([Piece(records.data, starts, records.sizes)])[0]


def _whole_records(piece: Piece) -> tuple[Sequence[bytes], Sequence[Sequence[int]]]:
    """What the CRCs of the piece's records cover, up to the first damaged one, and the columns of their headers."""
    data, starts = piece.data, piece.starts
    ends = [*map(add, starts, piece.sizes)]
    if min(starts) < 0 or min(piece.sizes) < HEADER_BYTES or max(ends) > len(data):  # no record can be there
        starts = starts[: _before_misfit(piece)]
    headers = [*zip(*map(_HEADER.unpack_from, repeat(data), starts), strict=True)]
    covered = [data[start + _CRC.size : end] for start, end in zip(starts, ends, strict=False)]
    crcs = [*map(zlib.crc32, covered)]
    if not headers or tuple(crcs) == headers[0]:
        return covered, headers
    whole = [*map(eq, crcs, headers[0])].index(False)
    return covered[:whole], [column[:whole] for column in headers]


def _before_misfit(piece: Piece) -> int:
    places = zip(piece.starts, piece.sizes, strict=True)
    fits = (start >= 0 and size >= HEADER_BYTES and start + size <= len(piece.data) for start, size in places)
    return sum(takewhile(bool, fits))


def _column(records: Sequence[bytes], starts: Iterable[int], ends: Iterable[int | None]) -> list[bytes]:
    return [record[start:end] for record, start, end in zip(records, starts, ends, strict=False)]


def rebuild_entries(data: bytes, start: int, count: int, position: int) -> bytes:
    """Index entries of `count` records that begin at `start` of `data` and lie at `position` of the log."""
    entries = []
    for _ in range(count):
        _, size, key, tag, attributes, _ = _HEADER.unpack_from(data, start)
        key_at = start + HEADER_BYTES
        tag_at = key_at + key
        attributes_at = tag_at + tag
        lane = _lane(data[key_at:tag_at], data[attributes_at : attributes_at + attributes])
        entries.append(_ENTRY.pack(position, size, tag_hash(data[tag_at:attributes_at]), lane))
        start += size
        position += size
    return b"".join(entries)


def read_back(data: bytes, count: int) -> Records | None:
    """Records that were encoded together; None if `data` is not exactly so many of them."""
    starts, at = [], 0
    for _ in range(count):
        if at + HEADER_BYTES > len(data):
            return None
        starts.append(at)
        at += int(_SIZE.unpack_from(data, at + _CRC.size)[0])
    if at != len(data) or not count:
        return None
    _, sizes, key_sizes, tag_sizes, attribute_sizes, _ = zip(
        *map(_HEADER.unpack_from, repeat(data), starts), strict=True
    )
    key_ends = [start + HEADER_BYTES + size for start, size in zip(starts, key_sizes, strict=True)]
    tag_ends = [*map(add, key_ends, tag_sizes)]
    keys = [data[end - size : end] for end, size in zip(key_ends, key_sizes, strict=True)]
    attributes = {
        index: data[tag_ends[index] : tag_ends[index] + attribute_sizes[index]]
        for index in compress(range(count), attribute_sizes)
    }
    tags = [data[begin:end] for begin, end in zip(key_ends, tag_ends, strict=True)] if any(tag_sizes) else []
    lanes = _lanes(Columns((), keys if any(key_sizes) else (), (), attributes))
    return Records(data, sizes, _hashes(tags, count), lanes)


def rebuild_keys(data: bytes, start: int, count: int) -> tuple[list[bytes], list[int]]:
    """Keys and sizes of `count` records that begin at `start` of `data`."""
    keys, sizes = list[bytes](), list[int]()
    for _ in range(count):
        _, size, key, _, _, _ = _HEADER.unpack_from(data, start)
        keys.append(data[start + HEADER_BYTES : start + HEADER_BYTES + key])
        sizes.append(size)
        start += size
    return keys, sizes
