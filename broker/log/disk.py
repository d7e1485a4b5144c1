"""The file system as the engine uses it, in one place that a test can make fail."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from protos.errors import DirectoryUnusable

MOST_OPEN = 256  # files of the log and of the queues each; a process may have 1,024 by default, clients included
_MOST_BUFFERS = 512  # of one writev; the kernel's own limit is 1,024


class Disk:
    """Appends, syncs and replaces files; every method raises OSError where the file system refuses."""

    def open(self, path: Path, *, create: bool = True) -> int:
        """A descriptor for reading and writing; a new file is durable in its directory before this returns."""
        if not create:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
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

    def free(self, path: Path) -> int:
        """Bytes that this process may still write to the file system that holds the path."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def remove(self, path: Path) -> None:
        """Drops the file if it is there; durable with the next `sync_directory`."""
        path.unlink(missing_ok=True)

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


@dataclass(slots=True)
class _Shared:
    fd: int
    users: int = 0
    is_dropped: bool = False


class OpenFiles:
    """Descriptors shared by all threads: the least recently used are closed beyond the limit, never one in use."""

    def __init__(self, disk: Disk, limit: int = MOST_OPEN) -> None:
        self.disk = disk
        self._limit = limit
        self._files: dict[Path, _Shared] = {}  # the least recently used first
        self._lock = Lock()

    @contextmanager
    def use(self, path: Path, *, create: bool = False) -> Iterator[int]:
        """The file's descriptor, valid inside the block. Raises FileNotFoundError unless it may be created."""
        file = self._take(path, create)
        try:
            yield file.fd
        finally:
            with self._lock:
                file.users -= 1
                self._close_idle(file if file.is_dropped else None)

    def drop(self, path: Path) -> None:
        """Lets the file go: its descriptor is closed when nobody uses it any more."""
        with self._lock:
            file = self._files.pop(path, None)
            if file is not None:
                file.is_dropped = True
                self._close_idle(file)

    def close(self) -> None:
        """Closes all; nobody may use any."""
        for path in [*self._files]:
            self.drop(path)

    def _take(self, path: Path, create: bool) -> _Shared:
        with self._lock:
            file = self._files.pop(path, None)
            if file is not None:
                return self._hold(path, file)
        opened = _Shared(self.disk.open(path, create=create))
        with self._lock:
            file = self._files.pop(path, None)
            if file is not None:  # another thread was faster
                os.close(opened.fd)
            return self._hold(path, file or opened)

    def _hold(self, path: Path, file: _Shared) -> _Shared:
        file.users += 1
        self._files[path] = file
        return file

    def _close_idle(self, dropped: _Shared | None) -> None:
        """With the lock: closes what was dropped, and what is too many, as far as nobody uses it."""
        if dropped is not None and not dropped.users:
            os.close(dropped.fd)
        if len(self._files) > self._limit:
            path = next((path for path, file in self._files.items() if not file.users), None)
            if path is not None:
                os.close(self._files.pop(path).fd)


def read_json(path: Path) -> Any:
    """What a file holds that was stored with `Disk.replace`. Raises DirectoryUnusable if it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DirectoryUnusable(path=path, reason=f"it is damaged: {error}") from error
    except OSError as error:
        raise DirectoryUnusable(path=path, reason=error) from error
