"""The indexes of the segment that grows, written with each group."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from broker.log.disk import Disk
from broker.log.frame import HEADER, Frame
from broker.log.index import keys, times
from broker.log.index.entries import EntryFile, Mark, read_entries
from broker.log.payload import publish_head_size, stored_runs
from broker.log.record import rebuild_keys
from broker.log.segment import Segment

TIMES, KEYS = ".times", ".keys"


@dataclass(frozen=True, slots=True)
class IndexMark:
    """Where the indexes of the segment that begins at `start` stood."""

    start: int
    highest_ms: int
    times: Mark
    keys: Mark

    def numbers(self) -> Sequence[int]:
        """For a file; `IndexMark.of` is the inverse."""
        return [self.start, self.highest_ms, self.times.size, self.times.crc, self.keys.size, self.keys.crc]

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "IndexMark":
        start, highest_ms, *files = numbers
        return cls(start, highest_ms, Mark(*files[:2]), Mark(*files[2:]))


class Growing:
    """For one thread; others may look at the marks of the files and at the highest time."""

    def __init__(self, segment: Segment, disk: Disk, ending: str = "") -> None:
        """`ending` is of the files' names."""
        self.start = segment.start
        self.times_file = EntryFile(segment.path.with_suffix(f"{TIMES}{ending}"), disk)
        self.keys_file = EntryFile(segment.path.with_suffix(f"{KEYS}{ending}"), disk)
        self._times = times.Times(self.start)
        self._new_times, self._new_keys = list[bytes](), list[bytes]()

    @property
    def highest_ms(self) -> int:
        return self._times.highest_ms

    def restore(self, mark: IndexMark) -> bool:
        """Goes on where the mark was taken; False, and empty, unless the files hold that."""
        if not (self.times_file.restore(mark.times) and self.keys_file.restore(mark.keys)):
            self.clear()
            return False
        stored = read_entries(self.times_file.path, 0, mark.times.size)
        self._times = times.Times(times.indexed(stored, self.start), mark.highest_ms)
        return True

    def clear(self) -> None:
        """Begins anew."""
        self.times_file.restore(Mark())
        self.keys_file.restore(Mark())
        self._times = times.Times(self.start)

    def mark(self) -> IndexMark:
        """How far everything is written."""
        return IndexMark(self.start, self.highest_ms, self.times_file.mark, self.keys_file.mark)

    def note(self, position: int, stored_at_ms: int) -> None:
        """Takes the frame at this position."""
        entry = self._times.note(position, stored_at_ms)
        if entry:
            self._new_times.append(entry)

    def add_keys(self, hashes: Sequence[int], sizes: Sequence[int], position: int) -> None:
        """Takes records of these sizes that lie back to back from `position` on."""
        if hashes:
            positions = accumulate(sizes[:-1], initial=position - self.start)
            self._new_keys.append(keys.encode_keys(hashes, positions))

    def add(self, frame: Frame) -> None:
        """Takes a frame as it was stored, and the keys of its records."""
        self.note(frame.position, frame.stored_at_ms)
        start = publish_head_size(frame.payload) if (runs := stored_runs(frame)) else 0
        for run in runs:
            if not run.is_delayed:
                found, sizes = rebuild_keys(frame.payload, start, run.count)
                self.add_keys(keys.key_hashes(found, run.topic_id), sizes, frame.position + HEADER.size + start)
            start += run.size

    def write(self) -> None:
        """Writes what was taken, for all to see."""
        self.times_file.append(b"".join(self._new_times))
        self.keys_file.append(b"".join(self._new_keys))
        self._new_times, self._new_keys = [], []

    def finish(self, end: int) -> None:
        """The segment ends there and grows no more."""
        self._new_times.append(self._times.close(end))
        self.write()
        self.times_file.finish()
        self.keys_file.finish()

    def close(self) -> None:
        self.times_file.close()
        self.keys_file.close()
