"""How many messages per second leave a publisher: tokens that come at its pace and that messages take."""

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from protos.errors import InvalidArgument

BURST_SECONDS = 0.1  # what could not be sent in time is made up for, but no more than what comes in this time
ROUNDING = 1e-6  # of a token


@dataclass(frozen=True, slots=True)
class Tokens:
    """At the instant `at` (seconds of a clock) there were `count`; `pace` come per second, None: without limit."""

    pace: float | None
    at: float
    count: float = 1.0

    @property
    def most(self) -> float:
        """So many are kept while nobody waits; also what goes at once where it can be cut."""
        return math.inf if self.pace is None else max(1.0, self.pace * BURST_SECONDS)

    def filled(self, now: float, wanted: int = 0) -> "Tokens":
        """With what has come since; while so many are waited for, more than those may gather."""
        if self.pace is None:
            return replace(self, at=now)
        return replace(self, at=now, count=min(self.count + (now - self.at) * self.pace, wanted + self.most))

    def paced(self, pace: float | None, now: float, wanted: int = 0) -> "Tokens":
        """At another pace from now on; what has come at the old one stays."""
        changed = replace(self.filled(now, wanted), pace=pace)
        return replace(changed, count=min(changed.count, wanted + changed.most))

    def seconds_until(self, wanted: int) -> float:
        """How long it takes, from `at` on, until so many are there."""
        missing = wanted - self.count
        return 0.0 if self.pace is None or missing <= ROUNDING else missing / self.pace

    def taken(self, count: int) -> "Tokens":
        return self if self.pace is None else replace(self, count=self.count - count)


class Pacer:
    """Lets messages through at a pace. `pace` may be asked and set from any thread; one at a time waits."""

    def __init__(self, pace: float | None, clock: Callable[[], float]) -> None:
        """Raises InvalidArgument."""
        self._clock = clock
        self._tokens = Tokens(_checked(pace), clock())
        self._lock = threading.Lock()
        self._wanted = 0
        self._changed: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def pace(self) -> float | None:
        return self._tokens.pace

    @pace.setter
    def pace(self, pace: float | None) -> None:
        with self._lock:
            self._tokens = self._tokens.paced(_checked(pace), self._clock(), self._wanted)
            if self._changed is not None:
                loop, changed = self._changed
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(changed.set)

    def take(self, count: Callable[[float], int]) -> bool:
        """Whether messages may go now, as many as `count` says, told how many go at once at this pace."""
        with self._lock:
            self._tokens = self._tokens.filled(self._clock())
        return not self._seconds_until(count)

    async def wait(self, count: Callable[[float], int]) -> None:
        """Returns when they may go; `count` is asked again when the pace changes."""
        changed = asyncio.Event()
        with self._lock:
            self._changed = asyncio.get_running_loop(), changed
        try:
            while seconds := self._seconds_until(count):
                with suppress(TimeoutError):  # not by `asyncio.wait_for`, which may swallow a cancellation
                    async with asyncio.timeout(seconds):
                        await changed.wait()
                changed.clear()
        finally:
            with self._lock:
                self._changed, self._wanted = None, 0

    def _seconds_until(self, count: Callable[[float], int]) -> float:
        """Until they may go; 0: they are taken."""
        with self._lock:
            wanted = count(self._tokens.most)
            self._tokens = self._tokens.filled(self._clock(), wanted)
            seconds = self._tokens.seconds_until(wanted)
            self._wanted = wanted if seconds else 0
            if not seconds:
                self._tokens = self._tokens.taken(wanted)
            return seconds


def _checked(pace: float | None) -> float | None:
    if pace is None:
        return None
    given: object = pace
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise InvalidArgument(reason=f"a pace is a positive number of messages per second or None, not {pace!r}")
    return float(given)
