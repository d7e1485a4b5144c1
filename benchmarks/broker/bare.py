"""The floor under a broker: what its log got, and the same bytes written and read again with nothing in between."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.log.disk import Disk, OpenFiles
from broker.log.frame import Frame
from broker.log.recovery import read_frames
from broker.log.segment import Segment, segment_starts

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that the log got, and how many syncs made them durable."""

    size: int
    syncs: int


@dataclass(frozen=True, slots=True)
class Log:
    """The commit log of a broker that is idle, read from outside."""

    directory: Path

    @property
    def end(self) -> int:
        return max(segment.end for segment in self._segments())

    def since(self, position: int) -> Written:
        """Each frame says up to where the log was durable when it was written: another value, another sync."""
        groups = {frame.durable for frame in self._frames() if frame.position >= position}
        return Written(self.end - position, len(groups))

    def _frames(self) -> Iterator[Frame]:
        for segment in self._segments():
            yield from read_frames(segment, segment.start)

    def read_seconds(self) -> float:
        """How long all of it takes to be read, as it lies there."""
        began = time.perf_counter()
        for segment in self._segments():
            for position in range(segment.start, segment.end, _READ_BYTES):
                segment.read(position, _READ_BYTES)
        return time.perf_counter() - began

    def drop_cache(self) -> None:
        """The next reader reads from the disk."""
        for path in self.directory.iterdir():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def _segments(self) -> Iterator[Segment]:
        for start in segment_starts(self.directory):
            segment = Segment.open(self.directory, start, OpenFiles(Disk()))
            yield segment
            segment.close()


def write_seconds(path: Path, written: Written) -> list[float]:
    """How long each of as many fdatasyncs takes, with as many bytes before them, of one file."""
    block = os.urandom(written.size // written.syncs)
    seconds = []
    with path.open("wb", buffering=0) as file:
        for _ in range(written.syncs):
            began = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    path.unlink()
    return seconds
