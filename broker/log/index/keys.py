"""The key index of a segment: where records with a key are, by a hash of topic and key.

    hash u32 | position in the segment u32

Little-endian, in the order of the log; nothing for a record without a key. It is searched by scanning: 8 bytes a
message are gone through at the speed of memory, and nothing has to be sorted while messages are stored.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from zlib import crc32

_HASH = struct.Struct("<I")
ENTRY_BYTES = 8
MOST_SEGMENT_BYTES = 1 << 32  # what a position fits into


def key_hash(key: bytes, topic_id: int) -> int:
    """What the index keeps of a key; 0 is no key. Other topics' equal keys differ, or a search would read them all."""
    return (crc32(key, _start(topic_id)) or 1) if key else 0


def _start(topic_id: int) -> int:
    """Spread over all bits: a CRC that begins with 1 for "a" is the one that begins with 2 for "b"."""
    return crc32(topic_id.to_bytes(4, "little"))


def key_hashes(keys: Sequence[bytes], topic_id: int) -> Sequence[int]:
    """One per key; none at all where no message has a key."""
    if not any(keys):
        return ()
    if all(keys):
        hashes = [*map(crc32, keys, repeat(_start(topic_id)))]
        if all(hashes):
            return hashes
    return [key_hash(key, topic_id) for key in keys]


def encode_keys(hashes: Sequence[int], positions: Iterable[int]) -> bytes:
    """Entries of the records that have a key; positions count from the start of their segment."""
    if not all(hashes):
        positions = compress(positions, hashes)
        hashes = [*filter(None, hashes)]
    entries = array("I", bytes(ENTRY_BYTES * len(hashes)))  # a third of the time that struct takes
    entries[0::2], entries[1::2] = array("I", hashes), array("I", positions)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries.tobytes()


def positions_backwards(entries: bytes, wanted: int) -> Iterator[int]:
    """Positions of the records with this hash, the last first."""
    pattern = _HASH.pack(wanted)
    at = entries.rfind(pattern)
    while at >= 0:
        if at % ENTRY_BYTES == 0:
            (position,) = _HASH.unpack_from(entries, at + _HASH.size)
            yield position
        at = entries.rfind(pattern, 0, at + len(pattern) - 1)
