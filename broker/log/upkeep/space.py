"""Room on the disk: new messages are refused while there is still enough for everything else to go on."""

from collections.abc import Callable
from pathlib import Path

from broker.errors import DiskFull
from broker.log.disk import Disk

_LOOK_EVERY_SECONDS = 1.0


class Space:
    """Belongs to one thread; looks at the disk at most once a second, so that asking costs nothing."""

    def __init__(self, disk: Disk, path: Path, reserve: int, clock: Callable[[], float]) -> None:
        self._disk = disk
        self._path = path
        self._reserve = reserve
        self._clock = clock
        self._free = 0
        self._look_at = float("-inf")

    @property
    def free(self) -> int:
        """Bytes that are free, a second old at most."""
        now = self._clock()
        if now >= self._look_at:
            self._free = self._disk.free(self._path)
            self._look_at = now + _LOOK_EVERY_SECONDS
        return self._free

    def check(self) -> None:
        """Raises DiskFull while less than the reserve is free."""
        free = self.free
        if free < self._reserve:
            raise DiskFull(path=self._path, free=free, reserve=self._reserve)
