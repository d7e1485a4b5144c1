"""What an executor has said and the admin has not handled yet: said one by one, handled together where it is alike."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from protos.executor.v1 import link_pb2 as pb

MOST_WAITING = 1_000  # requests; who says more waits
MOST_BYTES = 4 << 20  # of them
MOST_TOGETHER = 2_000  # outcomes or attempts of one request


class Inbox:
    """Requests of one link in their order; reports that stand next to each other become one, and so do acceptances.

    While the database is busy with one, the others pile up: one transaction for all is what lets it catch up.
    """

    def __init__(self) -> None:
        self._waiting: deque[pb.ConnectRequest] = deque()
        self._sizes: deque[int] = deque()  # as they came: together requests take a little less
        self._bytes = 0
        self._changed = asyncio.Condition()
        self._is_closed = False

    async def put(self, request: pb.ConnectRequest) -> None:
        """Waits while too much waits."""
        async with self._changed:
            await self._changed.wait_for(self._has_room)
            if not self._is_closed:
                size = request.ByteSize()
                self._bytes += size
                if self._joined(request):
                    self._sizes[-1] += size
                else:
                    self._waiting.append(request)
                    self._sizes.append(size)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._is_closed or (len(self._waiting) < MOST_WAITING and self._bytes < MOST_BYTES)

    def _joined(self, request: pb.ConnectRequest) -> bool:
        """Whether it was added to the last one."""
        kind = request.WhichOneof("kind")
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.WhichOneof("kind") != kind:
            return False
        if kind == "report" and len(last.report.outcomes) < MOST_TOGETHER:
            last.report.outcomes.extend(request.report.outcomes)
            return True
        if kind == "accept" and len(last.accept.attempts) < MOST_TOGETHER:
            last.accept.attempts.extend(request.accept.attempts)
            return True
        return False

    async def close(self) -> None:
        """Nothing more comes."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Nobody will handle what waits or comes."""
        self._waiting.clear()
        self._sizes.clear()
        self._bytes = 0
        self._is_closed = True

    async def __aiter__(self) -> AsyncIterator[pb.ConnectRequest]:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                request = self._waiting.popleft()
                self._bytes -= self._sizes.popleft()
                self._changed.notify_all()
            yield request
