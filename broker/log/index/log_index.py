"""The indexes of all segments of the log: one thread adds to those of the last one, any thread looks up in all.

Nothing here is the truth: what is missing or damaged is made again from the log, at the latest when it is looked for.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from threading import Lock

from broker.log.commit_log import CommitLog
from broker.log.disk import Disk
from broker.log.frame import HEADER, Frame, frame_length, stored_at_ms
from broker.log.index import keys, times
from broker.log.index.entries import chunks_backwards, finished_size, read_entries
from broker.log.index.growing import KEYS, TIMES, Growing, IndexMark
from broker.log.recovery import inspect
from broker.log.segment import Segment

_NEW = "-new"


class LogIndex:
    """Finds positions in the log by time, and by topic and key."""

    def __init__(self, log: CommitLog, disk: Disk) -> None:
        self._log = log
        self._disk = disk
        self._growing = Growing(log.segments[0], disk)
        self._finished: dict[int, tuple[int, int]] = {}  # sizes of the files of segments, once they were looked at
        self._mending = Lock()

    def restore(self, mark: IndexMark | None, position: int) -> None:
        """Goes on where the mark was taken, at this position of the log; frames from there on are added again."""
        segment = next((known for known in self._log.segments if known.start < position <= known.end), None)
        if segment is None:
            self._growing.clear()
            return
        self._growing.close()
        self._growing = Growing(segment, self._disk)
        if mark is None or mark.start != segment.start or not self._growing.restore(mark):
            self._growing.clear()
            _fill(self._growing, segment, position)

    def note(self, position: int, stored_at_ms: int) -> None:
        """Takes the frame at this position."""
        self._turn_to(position)
        self._growing.note(position, stored_at_ms)

    def add_keys(self, hashes: Sequence[int], sizes: Sequence[int], position: int) -> None:
        """Takes records of the frame noted last, which have these sizes and lie back to back from `position` on."""
        self._growing.add_keys(hashes, sizes, position)

    def add(self, frame: Frame) -> None:
        """Takes a frame as it was stored, and shows it; for recovery."""
        self._turn_to(frame.position)
        self._growing.add(frame)
        self._growing.write()

    def write(self) -> None:
        """Shows what was taken."""
        self._growing.write()

    def mark(self) -> IndexMark:
        """Where everything taken is written."""
        return self._growing.mark()

    def position_at(self, at_ms: int) -> int:
        """The first frame stored at that instant (milliseconds since the epoch) or later; the log's end if none is."""
        growing = self._growing
        for segment in self._log.segments:
            if segment.start > growing.start:
                break
            entries = self._times_of(segment, growing)
            latest = growing.highest_ms if segment.start == growing.start else times.highest(entries)
            if latest >= at_ms:
                return _first_stored(segment, times.last_before(entries, at_ms, segment.start), at_ms)
        return self._log.written

    def positions_of(self, topic_id: int, key: bytes) -> Iterator[int]:
        """Where records may be that have this key, the last first; others that have the same hash are among them."""
        growing, wanted = self._growing, keys.key_hash(key, topic_id)
        for segment in reversed(self._log.segments):
            if segment.start <= growing.start:
                _, size = self._sizes(segment, growing)
                for chunk in chunks_backwards(segment.path.with_suffix(KEYS), size):
                    for position in keys.positions_backwards(chunk, wanted):
                        yield segment.start + position

    def sweep(self) -> None:
        """Deletes the files of segments that are gone."""
        for suffix in (TIMES, KEYS, f"{TIMES}{_NEW}", f"{KEYS}{_NEW}"):
            for path in self._log.segments[0].path.parent.glob(f"*{suffix}"):
                if int(path.stem) < self._log.start:
                    self._disk.remove(path)
        with self._mending:
            self._finished = {start: sizes for start, sizes in self._finished.items() if start >= self._log.start}

    def close(self) -> None:
        self._growing.close()

    def _turn_to(self, position: int) -> None:
        segments = self._log.segments
        segment = segments[bisect_right(segments, position, key=attrgetter("start")) - 1]
        if segment.start != self._growing.start:
            self._growing.finish(segment.start)
            self._growing = Growing(segment, self._disk)
            self._growing.clear()

    def _times_of(self, segment: Segment, growing: Growing) -> bytes:
        return read_entries(segment.path.with_suffix(TIMES), 0, self._sizes(segment, growing)[0])

    def _sizes(self, segment: Segment, growing: Growing) -> tuple[int, int]:
        """Bytes of entries to read of times and keys; the files of a finished segment are made again if need be."""
        if segment.start == growing.start:
            return growing.times_file.mark.size, growing.keys_file.mark.size
        with self._mending:
            known = self._finished.get(segment.start)
            if known is None:
                known = self._finished[segment.start] = _finished_sizes(segment) or self._mend(segment)
            return known

    def _mend(self, segment: Segment) -> tuple[int, int]:
        mended = Growing(segment, self._disk, _NEW)
        mended.clear()
        _fill(mended, segment, segment.end)
        mended.finish(segment.end)
        for file in (mended.times_file, mended.keys_file):
            file.path.replace(file.path.with_name(file.path.name.removesuffix(_NEW)))
        return mended.times_file.mark.size, mended.keys_file.mark.size


def _finished_sizes(segment: Segment) -> tuple[int, int] | None:
    times_size, keys_size = (finished_size(segment.path.with_suffix(suffix)) for suffix in (TIMES, KEYS))
    return None if times_size is None or keys_size is None else (times_size, keys_size)


def _fill(growing: Growing, segment: Segment, end: int) -> None:
    """Takes all frames of the segment up to `end`."""
    for found in inspect(segment):
        if isinstance(found, Frame):
            if found.position >= end:
                break
            growing.add(found)
            growing.write()


def _first_stored(segment: Segment, position: int, at_ms: int) -> int:
    """The first frame from this one on that was stored then or later, or where frames end."""
    chunk, chunk_at = b"", position
    while True:
        header = chunk[position - chunk_at :][: HEADER.size]
        if len(header) < HEADER.size:
            chunk, chunk_at = segment.read(position, times.BLOCK_BYTES), position
            header = chunk[: HEADER.size]
        length = frame_length(header)
        if not length or stored_at_ms(header) >= at_ms:
            return position
        position += length
