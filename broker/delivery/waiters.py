"""Long polls: who waits for the next message of a queue."""

import asyncio
from collections.abc import Iterable

from broker.model import QueueKey


class Waiters:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[QueueKey, set[asyncio.Future[None]]] = {}

    async def wait(self, key: QueueKey, seconds: float) -> None:
        """Returns when the queue has grown, or when the time is up."""
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(future)
        try:
            await asyncio.wait((future,), timeout=seconds)
        finally:
            waiting.discard(future)

    def wake(self, keys: Iterable[QueueKey]) -> None:
        """The queues have grown."""
        for key in keys:
            for future in self._waiting.pop(key, ()):
                future.set_result(None)

    def wake_all(self) -> None:
        """Nothing more will come."""
        self.wake([*self._waiting])
