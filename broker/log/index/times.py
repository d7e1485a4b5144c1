"""The sparse time index of a segment: up to this position everything was stored at this instant or earlier.

    highest_ms u64 | position u64

Little-endian, an entry for each 64 KiB of log. A clock that goes back counts as the highest so far, so that both rise.
"""

import struct
from bisect import bisect_left

BLOCK_BYTES = 64 << 10
_ENTRY = struct.Struct("<QQ")
ENTRY_BYTES = _ENTRY.size


class Times:
    """Where the time index of one segment stands while the segment grows."""

    __slots__ = ("_indexed", "highest_ms")

    def __init__(self, indexed: int, highest_ms: int = 0) -> None:
        """`indexed` is the position of the last entry, or where the segment begins."""
        self._indexed = indexed
        self.highest_ms = highest_ms

    def note(self, position: int, stored_at_ms: int) -> bytes:
        """Takes the frame at this position; returns an entry when one is due."""
        entry = self.close(position) if position - self._indexed >= BLOCK_BYTES else b""
        self.highest_ms = max(self.highest_ms, stored_at_ms)
        return entry

    def close(self, end: int) -> bytes:
        """The entry of everything noted, which ends there."""
        self._indexed = end
        return _ENTRY.pack(self.highest_ms, end)


def highest(entries: bytes) -> int:
    """When the latest frame was stored, in milliseconds since the epoch; 0: there is none."""
    return int(_ENTRY.unpack_from(entries, len(entries) - ENTRY_BYTES)[0]) if entries else 0


def indexed(entries: bytes, start: int) -> int:
    """Up to where the entries of the segment that begins at `start` go."""
    return int(_ENTRY.unpack_from(entries, len(entries) - ENTRY_BYTES)[1]) if entries else start


def last_before(entries: bytes, at_ms: int, start: int) -> int:
    """The furthest position known of which everything before was stored earlier than that; at least `start`."""
    count = len(entries) // ENTRY_BYTES
    index = bisect_left(range(count), at_ms, key=lambda index: _ENTRY.unpack_from(entries, index * ENTRY_BYTES)[0])
    return int(_ENTRY.unpack_from(entries, (index - 1) * ENTRY_BYTES)[1]) if index else start
