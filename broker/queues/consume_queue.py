"""The consume queue: a 20-byte entry per message of one queue, in files of 300,000 entries, derived from the log."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from broker.log.disk import OpenFiles
from broker.log.record import ENTRY_BYTES
from broker.model import QueueRange
from broker.queues.file_sums import FileSums

ENTRIES_PER_FILE = 300_000
_DIGITS = 20


class ConsumeQueue:
    """Offsets `lowest` up to, not including, `end`; one thread appends, any may read what lies between."""

    def __init__(self, directory: Path, files: OpenFiles, entries_per_file: int = ENTRIES_PER_FILE) -> None:
        self.path = directory
        self.lowest = self.end = 0
        self._files = files
        self._entries_per_file = entries_per_file
        self._dirty: set[int] = set()  # first offsets of files
        self.sums = FileSums()
        self._first_file = 0
        self._has_directory = False
        self._last_path = (-1, directory)  # with the first offset: to make a path costs more than to write to its file

    def append(self, entries: bytes) -> None:
        """Makes the entries readable; they are durable after `sync`, or rebuilt from the log."""
        self._make_directory()
        while entries:
            first, at = self._place(self.end)
            fits = (self._entries_per_file - at) * ENTRY_BYTES
            with self._files.use(self._path(first), create=True) as fd:
                self._files.disk.write(fd, [entries[:fits]], at * ENTRY_BYTES)
            self.sums.append(first, entries[:fits], at * ENTRY_BYTES)
            self._dirty.add(first)  # behind the write: a sync in between must not take the mark along
            self.end += min(fits, len(entries)) // ENTRY_BYTES
            entries = entries[fits:]

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` entries from `offset` on, from one file; none where they were dropped, or from the end on."""
        first, at = self._place(offset)
        count = max(0, min(count, self.end - offset, self._entries_per_file - at))
        try:
            with self._files.use(self._path(first)) as fd:
                self.sums.check(first, fd, self._path(first))
                return os.pread(fd, count * ENTRY_BYTES, at * ENTRY_BYTES)
        except FileNotFoundError:
            return b""

    def sync(self) -> None:
        """Makes everything appended before this call durable; from any one thread."""
        for first in [*self._dirty]:  # not those that a busy writer marks again meanwhile: that might never end
            self._dirty.discard(first)
            with suppress(FileNotFoundError), self._files.use(self._path(first)) as fd:
                self._files.disk.sync(fd)

    def drop_before(self, offset: int) -> None:
        """Forgets what lies before the offset; its files go with the next `sweep`."""
        self.lowest = max(self.lowest, min(offset, self.end))

    def sweep(self, lowest: int) -> None:
        """Deletes the files that lie wholly before `lowest`; once a checkpoint says that nobody needs them."""
        kept, _ = self._place(lowest)
        for first in range(self._first_file, kept, self._entries_per_file):
            self._remove(self._path(first))
            self.sums.forget(first)
        self._first_file = max(self._first_file, kept)

    def restore(self, held: QueueRange, sums: Iterable[Sequence[int]] = ()) -> bool:
        """Cuts the files back to what the queue held; False, and empty, if they hold less than that."""
        is_whole = self._holds(held)
        self.lowest = held.lowest_offset
        self.end = held.end_offset if is_whole else held.lowest_offset
        (lowest, _), (last, at) = self._place(self.lowest), self._place(self.end)
        is_empty = self.lowest == self.end
        for path in self.path.iterdir() if self.path.is_dir() else ():
            first = int(path.name)
            if is_empty or first < lowest or first > last or (first == last and not at):
                self._remove(path)
        if at and not is_empty and _size(self._path(last)) > at * ENTRY_BYTES:  # never after a clean stop
            with self._files.use(self._path(last)) as fd:
                self._files.disk.truncate(fd, at * ENTRY_BYTES)
        self.sums.restore(stored for stored in sums if stored[0] >= lowest and not is_empty)
        self._first_file = lowest
        return is_whole

    def delete(self) -> None:
        """Drops everything: its topic is gone. Somebody may still read, and finds nothing."""
        self.lowest = self.end
        self._dirty.clear()
        for path in [*self.path.iterdir()] if self.path.is_dir() else ():
            self._remove(path)
        with suppress(FileNotFoundError):
            self.path.rmdir()

    def begin(self, offset: int) -> None:
        """An empty queue goes on at this offset."""
        self.lowest = self.end = offset

    def _holds(self, held: QueueRange) -> bool:
        if held.lowest_offset == held.end_offset:
            return True
        lowest, _ = self._place(held.lowest_offset)
        return all(
            _size(self._path(first)) >= min(self._entries_per_file, held.end_offset - first) * ENTRY_BYTES
            for first in range(lowest, held.end_offset, self._entries_per_file)
        )

    def _remove(self, path: Path) -> None:
        self._files.disk.remove(path)
        self._files.drop(path)

    def _make_directory(self) -> None:
        if not self._has_directory:
            self._files.disk.make_directory(self.path)
            self._has_directory = True

    def _place(self, offset: int) -> tuple[int, int]:
        """First offset of the file that holds it, and its ordinal there."""
        at = offset % self._entries_per_file
        return offset - at, at

    def _path(self, first: int) -> Path:
        last, path = self._last_path
        if first != last:
            path = self.path / f"{first:0{_DIGITS}}"
            self._last_path = (first, path)
        return path


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
