"""The commit log: frames back to back over segments, appended by one thread, durable when flushed."""

import enum
import errno
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from threading import Lock

from broker.errors import LogDamaged, TooLarge
from broker.log.disk import Disk, OpenFiles
from broker.log.frame import HEADER, Frame, Kind, encode_frame
from broker.log.recovery import check_chain, cut_torn_tail, read_frames
from broker.log.segment import Segment, segment_starts
from broker.log.sync_times import SyncTimes

SEGMENT_BYTES = 256 << 20


class Durability(enum.StrEnum):
    """When what was flushed is synced: what a power loss takes is what was not. A killed process takes nothing."""

    FSYNC = enum.auto()  # before it is acknowledged
    INTERVAL = enum.auto()  # by a `Syncer`, a moment later
    OS = enum.auto()  # when the system likes


class CommitLog:
    """All frames in arrival order.

    `append` and `flush` belong to one thread; `read` may be called from any, for what lies before `written`.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        segment_bytes: int = SEGMENT_BYTES,
        durability: Durability = Durability.FSYNC,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._files = OpenFiles(disk)
        self._segment_bytes = segment_bytes
        self.durability = durability
        self.sync_times = SyncTimes()
        self._clock = clock
        starts = segment_starts(directory) or [0]
        self._segments = tuple(Segment.open(directory, start, self._files) for start in starts)
        self._pending: list[bytes] = []
        self._syncing = Lock()
        self._end = self._durable = self._segments[-1].end

    @property
    def start(self) -> int:
        """The first position that is still stored."""
        return self._segments[0].start

    @property
    def written(self) -> int:
        """Everything before this position can be read, and is acknowledged; a killed process leaves it."""
        return self._segments[-1].end

    @property
    def durable(self) -> int:
        """Everything before this position is on disk."""
        return self._durable

    @property
    def segments(self) -> Sequence[Segment]:
        """All that is stored; nothing is appended any more to any but the last one, and those others are durable."""
        return self._segments

    def check(self, durable: int) -> None:
        """Raises LogDamaged if the files hold less than they did; `durable` is known to have been."""
        check_chain(self._segments, durable)

    def frames(self, begin: int, end: int) -> Iterator[Frame]:
        """Durable frames from one position up to another. Raises LogDamaged where one is not whole."""
        for segment in self._segments:
            if segment.start < end and segment.end > begin:
                position = max(segment.start, begin)
                for frame in read_frames(segment, position):
                    if frame.position >= end:
                        return
                    yield frame
                    position = frame.end
                if position < min(segment.end, end):
                    raise LogDamaged(position=position, path=segment.path, reason="a frame is not whole")

    def recover(self, checked: int, replay: Callable[[Frame], None]) -> None:
        """Hands over every frame from `checked` on, cuts a torn tail and makes sure of what is left.

        Raises LogDamaged where something is wrong that a crash cannot explain.
        """
        self.check(checked)
        for segment in self._segments:
            if segment.end > checked:
                for frame in read_frames(segment, max(segment.start, checked)):
                    replay(frame)
                    checked = frame.end
                cut_torn_tail(segment, checked, is_last=segment is self._segments[-1])
        self._segments[-1].sync()
        self._end = self._durable = self._segments[-1].end

    def append(self, kind: Kind, payload: Sequence[bytes], stored_at_ms: int) -> int:
        """Takes a frame for the next flush and returns its position. Raises TooLarge."""
        length = HEADER.size + sum(map(len, payload))
        if length > self._segment_bytes:
            raise TooLarge(what="publish", size=length, limit=self._segment_bytes)
        if self._end + length > self._segments[-1].start + self._segment_bytes:
            self._roll()
        position = self._end
        self._pending += encode_frame(
            kind, payload, position=position, durable=self._durable, stored_at_ms=stored_at_ms
        )
        self._end += length
        return position

    def flush(self) -> None:
        """One write for all that was appended since the last flush, and one sync if that is the policy."""
        self._write()
        if self.durability is Durability.FSYNC:
            self.sync()

    def sync(self) -> None:
        """Makes what is written durable; from any thread."""
        with self._syncing:
            current = self._segments[-1]
            end = current.end  # before the sync: the writer goes on meanwhile
            if self._durable < end:
                began = self._clock()
                current.sync()
                ended = self._clock()
                self.sync_times.add(ended, ended - began)
                self._durable = end

    def _write(self) -> None:
        if self._pending:
            current = self._segments[-1]
            current.append(self._pending, self._end - current.end)
            self._pending = []

    def _roll(self) -> None:
        """Begins a segment; the one before is durable first, so that only the last one can ever have a torn tail."""
        self._write()
        self.sync()
        following = Segment.open(self._directory, self._end, self._files)
        with self._syncing:
            self._segments[-1].finish()
            self._segments = (*self._segments, following)

    def remove_before(self, position: int) -> int:
        """Deletes segments wholly before the position, never the one that is written; returns how many; any thread.

        Only what a stored checkpoint does not need any more: it must lie behind them, and its queues begin behind them.
        Raises OSError: what could not be deleted is still known.
        """
        removed = [segment for segment in self._segments[:-1] if segment.end <= position]
        for segment in removed:  # the oldest first, each durably, so that a crash leaves no hole
            segment.remove()
            self._files.disk.sync_directory(self._directory)
            with self._syncing:
                self._segments = tuple(known for known in self._segments if known is not segment)
        return len(removed)

    def read(self, position: int, size: int) -> bytes:
        """Written bytes of the log; fewer than asked for where a file is shorter than it was, unreadable, or gone."""
        pieces = []
        while size > 0:
            segment = self._segment_at(position)
            data = _readable(segment, position, size)
            pieces.append(data)
            position, size = position + len(data), size - len(data)
            if not data or position != segment.end:
                break
        return b"".join(pieces)

    def path_of(self, position: int) -> Path:
        """The file that holds the byte at this position."""
        return self._segment_at(position).path

    def _segment_at(self, position: int) -> Segment:
        segments = self._segments  # looked at once: others may begin and delete segments meanwhile
        index = bisect_right(segments, position, key=attrgetter("start")) - 1
        return segments[max(index, 0)]

    def close(self) -> None:
        """Gives all descriptors back; nobody reads any more."""
        for segment in self._segments:
            segment.close()
        self._files.close()


def _readable(segment: Segment, position: int, size: int) -> bytes:
    try:
        return segment.read(position, size)
    except OSError as error:
        if error.errno == errno.EIO:  # what the disk cannot give back is as lost as what it gives back wrong
            return b""
        raise
