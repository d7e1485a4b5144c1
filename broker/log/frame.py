"""A frame: the atomic unit of the commit log, whole or not there at all.

    length u32 | crc u32 | magic u32 | version u8 | kind u8 | position u64 | durable u64 | stored_at_ms u64 | payload

Little-endian. `length` counts the whole frame, `crc` (CRC-32) covers everything behind it. A frame holds its own
position, so that bytes of an older file are never taken for it, and up to where the log was durable when it was
written, so that a torn tail can be told from damage to what had been acknowledged.
"""

import enum
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = struct.Struct("<IIIBBQQQ")
MAGIC = 0x31444853  # "SHD1"
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
MAGIC_OFFSET = 8  # of the magic in a frame
VERSION = 1
_CHECKED_FROM = 8
_CHECKED = struct.Struct("<IBBQQQ")


class Kind(enum.IntEnum):
    """What a frame's payload is."""

    PUBLISH = 1
    FENCE = 2
    FORGET = 3
    LEASES = 4
    GROUPS = 5
    DELAYS = 6
    TRANSACTIONS = 7
    BURIALS = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as read back and found whole."""

    kind: Kind
    position: int
    durable: int
    stored_at_ms: int
    payload: bytes
    crc: int

    @property
    def end(self) -> int:
        """The position behind it."""
        return self.position + HEADER.size + len(self.payload)


def encode_frame(
    kind: Kind, payload: Sequence[bytes], *, position: int, durable: int, stored_at_ms: int
) -> list[bytes]:
    """The frame's bytes, in pieces that are written back to back."""
    length = HEADER.size + sum(map(len, payload))
    crc = zlib.crc32(_CHECKED.pack(MAGIC, VERSION, kind, position, durable, stored_at_ms))
    for piece in payload:
        crc = zlib.crc32(piece, crc)
    return [HEADER.pack(length, crc, MAGIC, VERSION, kind, position, durable, stored_at_ms), *payload]


def frame_length(header: bytes) -> int:
    """The length that a frame's first bytes claim; 0 if they cannot be a frame's."""
    if len(header) < HEADER.size:
        return 0
    length, _, magic, version, *_ = HEADER.unpack_from(header)
    return int(length) if magic == MAGIC and version == VERSION and length >= HEADER.size else 0


def stored_at_ms(header: bytes) -> int:
    """When the frame was stored, from its first bytes."""
    return int(HEADER.unpack_from(header)[-1])


def decode_frame(data: bytes, position: int) -> Frame | None:
    """The frame that `data` is, if it is exactly one, whole, and written for this position."""
    if not data or frame_length(data) != len(data):
        return None
    _, crc, _, _, kind, own_position, durable, at_ms = HEADER.unpack_from(data)
    if own_position != position or zlib.crc32(memoryview(data)[_CHECKED_FROM:]) != crc:
        return None
    return Frame(Kind(kind), position, durable, at_ms, data[HEADER.size :], crc)
