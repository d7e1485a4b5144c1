"""The file system as the engine uses it, in one place that a test can make fail."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protos.errors import DirectoryUnusable

_MOST_BUFFERS = 512  # of one writev; the kernel's own limit is 1,024


class Disk:
    """Appends, syncs and replaces files; every method raises OSError where the file system refuses."""

    def open(self, path: Path) -> int:
        """A descriptor for reading and writing; a new file is durable in its directory before this returns."""
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if is_new:
            self.sync_directory(path.parent)
        return fd

    def make_directory(self, path: Path) -> None:
        """The directory and its parents, durable."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        path.mkdir(exist_ok=True)
        self.sync_directory(path.parent)

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> None:
        """All bytes of all buffers, back to back from `at` on; not durable before `sync`."""
        for first in range(0, len(buffers), _MOST_BUFFERS):
            at = self._write_some(fd, buffers[first : first + _MOST_BUFFERS], at)

    def _write_some(self, fd: int, buffers: Sequence[bytes], at: int) -> int:
        size = sum(map(len, buffers))
        written = os.pwritev(fd, buffers, at)
        if written < size:
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                rest = rest[os.pwrite(fd, rest, at + size - len(rest)) :]
        return at + size

    def sync(self, fd: int) -> None:
        """Returns when everything written is durable."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cuts the file, durably."""
        os.ftruncate(fd, size)
        os.fsync(fd)

    def sync_directory(self, path: Path) -> None:
        """Makes the names of the directory's files durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """The file holds either what it held or all of `data`, whatever happens; durable when this returns."""
        temporary = path.with_name(f"{path.name}.new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            self.write(fd, [data], 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        self.sync_directory(path.parent)


def read_json(path: Path) -> Any:
    """What a file holds that was stored with `Disk.replace`. Raises DirectoryUnusable if something else changed it."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DirectoryUnusable(path=path, reason=f"it is damaged: {error}") from error
