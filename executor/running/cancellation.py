"""How an attempt learns that it is to stop: asked to, out of time, or without its lease."""

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import TypeVar

from executor.errors import Cancelled

T = TypeVar("T")


class Why(enum.StrEnum):
    """What stopped an attempt, and so what is reported of it."""

    CANCELLED = enum.auto()  # the admin asked for it
    TIMED_OUT = enum.auto()
    RELEASED = enum.auto()  # this executor drains
    LOST = enum.auto()  # the lease is gone: nothing is reported


class Cancellation:
    """One attempt's order to stop, and its lease, by this process's monotonic clock (seconds).

    Orders are given in the daemon's loop; `check` and `is_requested` may be asked from any thread.
    """

    def __init__(self, lease_until: float, clock: Callable[[], float]) -> None:
        self.lease_until = lease_until
        self.why: Why | None = None
        self.clock = clock
        self.reason = ""
        self._requested = asyncio.Event()

    def request(self, why: Why, reason: str) -> None:
        """The first order stands, but a lost lease overrules every other."""
        if self.why is None or why is Why.LOST:
            self.why, self.reason = why, reason
            self._requested.set()

    def extend(self, until: float) -> None:
        """A lease that has lapsed stays so."""
        if not self.has_lapsed:
            self.lease_until = max(self.lease_until, until)

    @property
    def has_lapsed(self) -> bool:
        return self.why is Why.LOST or self.clock() >= self.lease_until

    @property
    def seconds_left(self) -> float:
        """Of the lease."""
        return 0.0 if self.has_lapsed else self.lease_until - self.clock()

    @property
    def is_requested(self) -> bool:
        return self.why is not None or self.has_lapsed

    def check(self) -> None:
        """Raises Cancelled once the attempt is to stop; also when this process slept through its lease."""
        if self.is_requested:
            raise Cancelled(reason=self.reason or "its lease lapsed")

    async def wait(self) -> None:
        await self._requested.wait()

    async def unless_stopped(self, awaiting: Awaitable[T]) -> T:
        """Waits for it; raises Cancelled as soon as an order comes first."""
        working = asyncio.ensure_future(awaiting)
        stopping = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise Cancelled(reason=self.reason)
        finally:
            working.cancel()
            stopping.cancel()
