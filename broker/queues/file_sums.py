"""Checksums of a queue's files: what an earlier process stored is held against them before it is first used."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

from broker.errors import QueueDamaged
from broker.log.index.entries import Mark

_CHUNK_BYTES = 1 << 20


class FileSums:
    """By first offset of a file. One thread appends, restores and stores; any may check."""

    def __init__(self) -> None:
        self._marks = dict[int, Mark]()
        self._unchecked = dict[int, Mark]()

    def append(self, first: int, entries: bytes, at: int) -> None:
        """So much was written behind the first `at` bytes of the file; one that has a hole before has no checksum."""
        mark = self._marks.get(first, Mark())
        if mark.size == at:
            self._marks[first] = Mark(at + len(entries), crc32(entries, mark.crc))

    def stored(self) -> list[Sequence[int]]:
        """For the checkpoint: first offset, bytes and CRC-32 of each file."""
        return [(first, mark.size, mark.crc) for first, mark in [*self._marks.items()]]

    def restore(self, stored: Iterable[Sequence[int]]) -> None:
        """Goes on where this was stored."""
        self._marks = {first: Mark(size, crc) for first, size, crc in stored}
        self._unchecked = dict(self._marks)

    def forget(self, first: int) -> None:
        """The file is deleted."""
        self._marks.pop(first, None)
        self._unchecked.pop(first, None)

    def check(self, first: int, fd: int, path: Path) -> None:
        """Reads all that the file held when the broker started, the first time. Raises QueueDamaged."""
        mark = self._unchecked.get(first)
        if mark is not None:
            crc = 0
            for at in range(0, mark.size, _CHUNK_BYTES):
                crc = crc32(os.pread(fd, min(_CHUNK_BYTES, mark.size - at), at), crc)
            if crc != mark.crc:
                raise QueueDamaged(path=path)
            self._unchecked.pop(first, None)
