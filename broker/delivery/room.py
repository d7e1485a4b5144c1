"""A bound on bytes that wait for something."""

import asyncio


class Room:
    """Belongs to one event loop. What alone is larger than all the room gets in when nothing else is there."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def taken(self) -> int:
        """Bytes."""
        return self._taken

    async def take(self, size: int) -> None:
        """Returns when there is room for so many bytes, which are taken then."""
        while self._taken and self._taken + size > self._limit:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        self._taken += size

    def give(self, size: int) -> None:
        """So many bytes are free; fewer than none: they turned out to be more than was taken."""
        self._taken -= size
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
