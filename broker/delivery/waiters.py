"""Long polls: who waits for the next message."""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from broker.model import GroupName, QueueKey, TopicId

Sign = QueueKey | tuple[GroupName, TopicId]
"""A queue, which grows, or what a group leases of a topic, of which something comes back."""


class Waiters:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Sign, set[asyncio.Future[None]]] = {}

    async def wait(self, sign: Sign, seconds: float) -> None:
        """Returns when the queue has grown, or when the time is up."""
        with self.watching((sign,)) as happened:
            await asyncio.wait((happened,), timeout=seconds)

    @contextmanager
    def watching(self, signs: Collection[Sign]) -> Iterator[asyncio.Future[None]]:
        """A future that is done when any of them happens inside the block."""
        future = asyncio.get_running_loop().create_future()
        for sign in signs:
            self._waiting.setdefault(sign, set()).add(future)
        try:
            yield future
        finally:
            for sign in signs:
                self._forget(sign, future)

    def _forget(self, sign: Sign, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(sign, set())
        waiting.discard(future)
        if not waiting:
            self._waiting.pop(sign, None)

    def wake(self, signs: Iterable[Sign]) -> None:
        """The queues have grown, or something came back."""
        for sign in signs:
            for future in self._waiting.pop(sign, ()):
                if not future.done():  # it may wait for several
                    future.set_result(None)

    def wake_all(self) -> None:
        """Everybody looks again."""
        self.wake([*self._waiting])
