"""Delayed messages: recalls, and the loop that moves what is due into its queue."""

import asyncio
from contextlib import suppress

from broker.engine.commands import DeliverDue, Recall
from broker.errors import BrokerStopping, DiskFull
from broker.face.parts import Parts
from broker.model import Delivered

LONGEST_SLEEP_SECONDS = 1.0  # then the wall clock is looked at again: somebody may have set it, or the disk has room


class DueDeliverer:
    """Moves messages when they are due, a chunk at a time, so that publishes go on between."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._next_due_ms: int | None = None
        self._awake = asyncio.Event()

    def expect(self, due_ms: int) -> None:
        """A message that was stored just now is due then."""
        if self._next_due_ms is None or due_ms < self._next_due_ms:
            self._next_due_ms = due_ms
            self.wake()

    def wake(self) -> None:
        """Looks again what there is to do."""
        self._awake.set()

    async def run_once(self) -> Delivered:
        """One chunk. Raises BrokerStopping, and DiskFull while there is no room for copies."""
        self._parts.space.check()
        delivered = await self._parts.ask(DeliverDue())
        assert isinstance(delivered, Delivered)
        self._next_due_ms = delivered.next_due_ms
        return delivered

    async def run(self) -> None:
        """Until the broker stops."""
        with suppress(BrokerStopping):
            while not self._parts.stopping.is_set():
                try:
                    if (await self.run_once()).count == 0:
                        await self._sleep_until_due()
                except DiskFull:
                    await self._sleep(LONGEST_SLEEP_SECONDS)

    async def _sleep_until_due(self) -> None:
        while not self._parts.stopping.is_set():
            due_ms = self._next_due_ms
            left_ms = None if due_ms is None else due_ms - self._parts.clock()
            if left_ms is not None and left_ms <= 0:
                return
            await self._sleep(None if left_ms is None else min(left_ms / 1_000, LONGEST_SLEEP_SECONDS))

    async def _sleep(self, seconds: float | None) -> None:
        with suppress(TimeoutError):  # not by `asyncio.wait_for`, which may swallow a cancellation
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        self._awake.clear()


class Delays:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.deliverer = DueDeliverer(parts)

    async def recall(self, handle: int) -> None:
        """Raises HandleUnknown."""
        await self._parts.ask(Recall(handle))
