"""Reads far behind leave the broker to those who publish: one at a time, with rests in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

FAR_BEHIND = 1_000_000  # messages of a queue
RESTS = 3  # times as long as the read took; publishers at full speed then keep more than two thirds of it


class Pacing:
    """Belongs to one event loop. `is_publishing` says whether publishes wait for their sync at this moment."""

    def __init__(
        self, is_publishing: Callable[[], bool], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._is_publishing = is_publishing
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._rests_until = 0.0  # by the loop's clock

    @asynccontextmanager
    async def turn(self, behind: int) -> AsyncIterator[None]:
        """Around a read that is so many messages behind; at once where that is not far or nobody publishes.

        The rest is the next one's: whoever asked has a deadline, and what was read for him would be lost behind it.
        """
        if behind < FAR_BEHIND or not self._is_publishing():
            yield
            return
        async with self._turn:
            loop = asyncio.get_running_loop()
            if (left := self._rests_until - loop.time()) > 0:
                await self._sleep(left)
            began = loop.time()
            yield
            ended = loop.time()
            self._rests_until = ended + RESTS * (ended - began)
