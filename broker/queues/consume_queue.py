"""The consume queue: a 20-byte entry per message of one queue, in files of 300,000 entries, derived from the log."""

import os
from pathlib import Path

from broker.log.disk import Disk
from broker.log.record import ENTRY_BYTES

ENTRIES_PER_FILE = 300_000
_DIGITS = 20


class ConsumeQueue:
    """Offsets 0 up to, not including, `end`; one thread appends, any may read what lies before `end`."""

    def __init__(self, directory: Path, end: int, disk: Disk, entries_per_file: int = ENTRIES_PER_FILE) -> None:
        self._directory = directory
        self._disk = disk
        self._entries_per_file = entries_per_file
        self._files: dict[int, int] = {}  # first offset -> descriptor
        self._dirty: set[int] = set()
        self.end = end

    @property
    def lowest(self) -> int:
        """The first offset still stored."""
        return 0

    @property
    def path(self) -> Path:
        """The directory of its files."""
        return self._directory

    def append(self, entries: bytes) -> None:
        """Makes the entries readable; they are durable after `sync`, or rebuilt from the log."""
        while entries:
            first, at = self._place(self.end)
            fits = (self._entries_per_file - at) * ENTRY_BYTES
            fd = self._file(first)
            self._disk.write(fd, [entries[:fits]], at * ENTRY_BYTES)
            self._dirty.add(fd)  # behind the write: a sync in between must not take the mark along
            self.end += min(fits, len(entries)) // ENTRY_BYTES
            entries = entries[fits:]

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` entries from `offset` on, from one file."""
        first, at = self._place(offset)
        count = min(count, self.end - offset, self._entries_per_file - at)
        return os.pread(self._file(first), count * ENTRY_BYTES, at * ENTRY_BYTES)

    def sync(self) -> None:
        """Makes everything appended before this call durable; from any one thread."""
        for fd in [*self._dirty]:  # not those that a busy writer marks again meanwhile: that might never end
            self._dirty.discard(fd)
            self._disk.sync(fd)

    def holds(self, end: int) -> bool:
        """Whether the files have all entries before `end`."""
        return all(
            _size(self._path(first)) >= min(self._entries_per_file, end - first) * ENTRY_BYTES
            for first in range(0, end, self._entries_per_file)
        )

    def cut(self, end: int) -> None:
        """Drops every entry from `end` on."""
        first, at = self._place(end)
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            if int(path.name) > first or (int(path.name) == first and not at):
                path.unlink()
        if at:
            self._disk.truncate(self._file(first), at * ENTRY_BYTES)
        self.end = end

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)

    def _place(self, offset: int) -> tuple[int, int]:
        """First offset of the file that holds it, and its ordinal there."""
        at = offset % self._entries_per_file
        return offset - at, at

    def _path(self, first: int) -> Path:
        return self._directory / f"{first:0{_DIGITS}}"

    def _file(self, first: int) -> int:
        fd = self._files.get(first)
        if fd is None:
            self._disk.make_directory(self._directory)
            opened = self._disk.open(self._path(first))
            fd = self._files.setdefault(first, opened)
            if fd != opened:  # another thread was faster
                os.close(opened)
        return fd


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
