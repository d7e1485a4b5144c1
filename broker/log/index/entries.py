"""Files of index entries: appended beside the log, never synced, and sound only where their CRC-32 says so.

A finished file ends in `magic u32 | crc u32`, little-endian; how far an unfinished one is sound is told by a `Mark`.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from broker.log.disk import Disk

_FOOTER = struct.Struct("<II")
_MAGIC = 0x49444853  # "SHDI"
_CHUNK_BYTES = 1 << 20  # a multiple of every entry's size


@dataclass(frozen=True, slots=True)
class Mark:
    """Bytes of entries that a file held, and their CRC-32."""

    size: int = 0
    crc: int = 0


class EntryFile:
    """The file of a segment that still grows; for one thread, others may read up to `mark`."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.mark = Mark()
        self._disk = disk
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._is_open = True

    def restore(self, mark: Mark) -> bool:
        """Cuts the file back to what it held; False, and empty, if it does not hold that."""
        found = _crc(lambda size, at: os.pread(self._fd, min(size, mark.size - at), at))
        self.mark = mark if found == mark else Mark()
        os.ftruncate(self._fd, self.mark.size)
        return found == mark

    def append(self, entries: bytes) -> None:
        if entries:
            self._disk.write(self._fd, [entries], self.mark.size)
            self.mark = Mark(self.mark.size + len(entries), crc32(entries, self.mark.crc))

    def finish(self) -> None:
        """Nothing is appended any more."""
        self._disk.write(self._fd, [_FOOTER.pack(_MAGIC, self.mark.crc)], self.mark.size)
        self.close()

    def close(self) -> None:
        """Nothing happens if it was closed before: the one of two files may be finished when the other fails."""
        if self._is_open:
            self._is_open = False
            os.close(self._fd)


def finished_size(path: Path) -> int | None:
    """Bytes of entries in a finished file; None if it is missing, unfinished or damaged."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = max(os.fstat(fd).st_size - _FOOTER.size, 0)
        found = _crc(lambda most, at: os.pread(fd, min(most, size - at), at))
        return size if os.pread(fd, _FOOTER.size, size) == _FOOTER.pack(_MAGIC, found.crc) else None
    finally:
        os.close(fd)


def _crc(read: Callable[[int, int], bytes]) -> Mark:
    size = crc = 0
    while chunk := read(_CHUNK_BYTES, size):
        size, crc = size + len(chunk), crc32(chunk, crc)
    return Mark(size, crc)


def read_entries(path: Path, begin: int, end: int) -> bytes:
    """These bytes of a file; none if it is gone."""
    try:
        with path.open("rb") as file:
            return os.pread(file.fileno(), end - begin, begin)
    except FileNotFoundError:
        return b""


def chunks_backwards(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file in pieces of whole entries, the last piece first."""
    begin = (size - 1) // _CHUNK_BYTES * _CHUNK_BYTES
    while size > 0:
        yield read_entries(path, begin, size)
        size, begin = begin, begin - _CHUNK_BYTES
