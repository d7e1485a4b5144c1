"""The commit log: frames back to back over segments, appended by one thread, durable when flushed."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

from broker.errors import TooLarge
from broker.log.disk import Disk
from broker.log.frame import HEADER, Frame, Kind, encode_frame
from broker.log.recovery import check_chain, cut_torn_tail, read_frames
from broker.log.segment import Segment, segment_starts

SEGMENT_BYTES = 256 << 20


class CommitLog:
    """All frames in arrival order.

    `append` and `flush` belong to one thread; `read` may be called from any, for what `durable` covers.
    """

    def __init__(self, directory: Path, disk: Disk, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        starts = segment_starts(directory) or [0]
        self._segments = tuple(Segment.open(directory, start, disk) for start in starts)
        self._pending: list[bytes] = []
        self._end = self._durable = self._segments[-1].end

    @property
    def durable(self) -> int:
        """Everything before this position is on disk."""
        return self._durable

    def recover(self, checked: int, replay: Callable[[Frame], None]) -> None:
        """Hands over every frame from `checked` on, cuts a torn tail and makes sure of what is left.

        Raises LogDamaged where something is wrong that a crash cannot explain.
        """
        check_chain(self._segments, checked)
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
        """One write and one sync for all that was appended since the last flush."""
        if self._pending:
            current = self._segments[-1]
            current.append(self._pending, self._end - current.end)
            current.sync()
            self._pending = []
            self._durable = self._end

    def _roll(self) -> None:
        """Begins a segment; the one before is durable first, so that only the last one can ever have a torn tail."""
        self.flush()
        self._segments = (*self._segments, Segment.open(self._directory, self._end, self._disk))

    def read(self, position: int, size: int) -> bytes:
        """Durable bytes of the log; fewer than asked for where a file is shorter than it was."""
        pieces = []
        while size > 0:
            segment = self._segment_at(position)
            data = segment.read(position, size)
            pieces.append(data)
            position, size = position + len(data), size - len(data)
            if not data or position != segment.end:
                break
        return b"".join(pieces)

    def path_of(self, position: int) -> Path:
        """The file that holds the byte at this position."""
        return self._segment_at(position).path

    def _segment_at(self, position: int) -> Segment:
        index = bisect_right(self._segments, position, key=attrgetter("start")) - 1
        return self._segments[max(index, 0)]

    def close(self) -> None:
        for segment in self._segments:
            segment.close()
