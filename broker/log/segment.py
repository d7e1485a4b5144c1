"""One file of the commit log, named by the position of its first byte."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.log.disk import Disk

SUFFIX = ".log"
_DIGITS = 20


@dataclass(slots=True)
class Segment:
    """Bytes `start` up to, not including, `end` of the log. One thread writes, any may read what is written."""

    start: int
    end: int
    path: Path
    _fd: int
    _disk: Disk

    @classmethod
    def open(cls, directory: Path, start: int, disk: Disk) -> "Segment":
        """The segment that begins at `start`, new or as it lies there."""
        path = directory / f"{start:0{_DIGITS}}{SUFFIX}"
        fd = disk.open(path)
        return cls(start, start + os.fstat(fd).st_size, path, fd, disk)

    def append(self, buffers: Sequence[bytes], size: int) -> None:
        """Writes behind the end; not durable before `sync`."""
        self._disk.write(self._fd, buffers, self.end - self.start)
        self.end += size

    def sync(self) -> None:
        self._disk.sync(self._fd)

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on; none where the segment has none."""
        size = min(size, self.end - position)
        return os.pread(self._fd, size, position - self.start) if position >= self.start and size > 0 else b""

    def cut(self, position: int) -> None:
        """Drops everything from `position` on, durably."""
        self._disk.truncate(self._fd, position - self.start)
        self.end = position

    def close(self) -> None:
        os.close(self._fd)


def segment_starts(directory: Path) -> list[int]:
    """First positions of the segments that lie in the directory, rising."""
    return sorted(int(path.stem) for path in directory.glob(f"*{SUFFIX}"))
