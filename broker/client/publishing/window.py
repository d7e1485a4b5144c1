"""How much a producer has without an answer: publishes, and their bytes."""

import asyncio
from collections import deque


class Window:
    """So many publishes at most, of so many bytes together unless it is a single one; first come, first served."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._has = self._held = 0  # publishes, bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Waits until there is room for a publish of so many bytes."""
        if not self._waiting and self._fits(size):
            self._take(size)
            return
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, room))
        try:
            await room
        except asyncio.CancelledError:
            if room.cancelled():
                self._serve()  # those behind it may fit
            else:
                self.release(size)
            raise

    def release(self, size: int) -> None:
        self._has -= 1
        self._held -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            size, room = self._waiting[0]
            if not room.done():
                if not self._fits(size):
                    return
                self._take(size)
                room.set_result(None)
            self._waiting.popleft()

    def _fits(self, size: int) -> bool:
        return not self._has or (self._has < self._count and self._held + size <= self._size)

    def _take(self, size: int) -> None:
        self._has += 1
        self._held += size
