"""One file of the commit log, named by the position of its first byte, and the seal beside it.

A finished segment is sealed when it was read back whole: what it held then is what it has to hold for ever.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.log.disk import OpenFiles

SUFFIX = ".log"
_SEAL_SUFFIX = ".seal"
_DIGITS = 20
_CRC = struct.Struct("<I")
_SEAL = struct.Struct("<QQIQQ")


@dataclass(frozen=True, slots=True)
class Seal:
    """Where a finished segment ends, its frames, a CRC-32 over their CRCs, and when the first and last were stored."""

    end: int
    frames: int
    checksum: int
    first_at_ms: int
    last_at_ms: int


@dataclass(slots=True)
class Segment:
    """Bytes `start` up to, not including, `end` of the log. One thread writes, any may read what is written."""

    start: int
    end: int
    path: Path
    _files: OpenFiles
    _fd: int | None = None  # of the one thread that writes; so that the sync sees what befell the write

    @classmethod
    def open(cls, directory: Path, start: int, files: OpenFiles) -> "Segment":
        """The segment that begins at `start`, new or as it lies there."""
        path = directory / f"{start:0{_DIGITS}}{SUFFIX}"
        if not path.exists():
            os.close(files.disk.open(path))
        return cls(start, start + path.stat().st_size, path, files)

    def append(self, buffers: Sequence[bytes], size: int) -> None:
        """Writes behind the end; not durable before `sync`."""
        self._files.disk.write(self._own(), buffers, self.end - self.start)
        self.end += size

    def sync(self) -> None:
        """Makes everything written durable."""
        self._files.disk.sync(self._own())

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on; none where the segment has none, or is gone."""
        size = min(size, self.end - position)
        if position < self.start or size <= 0:
            return b""
        try:
            with self._files.use(self.path) as fd:
                return os.pread(fd, size, position - self.start)
        except FileNotFoundError:
            return b""

    def cut(self, position: int) -> None:
        """Drops everything from `position` on, durably."""
        self._files.disk.truncate(self._own(), position - self.start)
        self.end = position

    def seal(self, seal: Seal) -> None:
        """Stores the seal, durably."""
        data = _SEAL.pack(seal.end, seal.frames, seal.checksum, seal.first_at_ms, seal.last_at_ms)
        self._files.disk.replace(self.path.with_suffix(_SEAL_SUFFIX), _CRC.pack(zlib.crc32(data)) + data)

    def read_seal(self) -> Seal | None:
        """The seal; None if there is none, or one that is damaged and has to be made again."""
        path = self.path.with_suffix(_SEAL_SUFFIX)
        stored = path.read_bytes() if path.exists() else b""
        crc, data = stored[: _CRC.size], stored[_CRC.size :]
        return Seal(*_SEAL.unpack(data)) if len(data) == _SEAL.size and crc == _CRC.pack(zlib.crc32(data)) else None

    def finish(self) -> None:
        """Nothing is appended any more; it can be read."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        """Deletes it with its seal; who reads it goes on or finds nothing."""
        for path in (self.path.with_suffix(_SEAL_SUFFIX), self.path):
            self._files.disk.remove(path)
        self._files.drop(self.path)

    def close(self) -> None:
        """Gives its descriptors back."""
        self.finish()
        self._files.drop(self.path)

    def _own(self) -> int:
        if self._fd is None:
            self._fd = self._files.disk.open(self.path)
        return self._fd


def segment_starts(directory: Path) -> list[int]:
    """First positions of the segments that lie in the directory, rising."""
    return sorted(int(path.stem) for path in directory.glob(f"*{SUFFIX}"))
