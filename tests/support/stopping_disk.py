"""A disk that stops for ever before its n-th operation, and can then lose what was never synced."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from broker.log.disk import Disk
from tests.support.broker_engine import PowerLoss


class StoppingDisk(Disk):
    """Does `operations` more, then raises PowerLoss for ever; without a number it counts them and never stops.

    Syncs nothing in truth, and knows what would be lost.
    """

    def __init__(self, operations: int | None = None) -> None:
        self.done = 0
        self._left = operations
        self._synced = dict[Path, int]()
        self._removed = dict[Path, bytes]()  # and the directory was not synced since

    def lose_power(self, keep: int) -> None:
        """Files end where they were synced, and of the files removed last only so many are gone."""
        for path, size in self._synced.items():
            if path.exists() and path.stat().st_size > size:
                os.truncate(path, size)
        for path, data in [*self._removed.items()][: len(self._removed) - keep]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def _count(self) -> None:
        if self._left is not None:
            if not self._left:
                raise PowerLoss
            self._left -= 1
        self.done += 1

    def open(self, path: Path, *, create: bool = True) -> int:
        self._count()
        size = path.stat().st_size if path.exists() else 0
        self._synced.setdefault(path, size)
        return super().open(path, create=create)

    def make_directory(self, path: Path) -> None:
        self._count()
        super().make_directory(path)

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> None:
        self._count()
        self._synced.setdefault(_path(fd), at)
        super().write(fd, buffers, at)

    def sync(self, fd: int) -> None:
        self._count()
        self._synced[_path(fd)] = os.fstat(fd).st_size

    def truncate(self, fd: int, size: int) -> None:
        self._count()
        os.ftruncate(fd, size)
        self._synced[_path(fd)] = size

    def remove(self, path: Path) -> None:
        self._count()
        if path.exists():
            self._removed[path] = path.read_bytes()[: self._synced.pop(path, None)]
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._count()
        self._removed = {removed: data for removed, data in self._removed.items() if removed.parent != path}

    def replace(self, path: Path, data: bytes) -> None:
        self._count()
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_bytes(data)
        self._count()
        shutil.move(temporary, path)
        self._removed = {removed: kept for removed, kept in self._removed.items() if removed.parent != path.parent}


def _path(fd: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{fd}"))
