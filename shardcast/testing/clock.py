"""The clock of a test server: it goes on like the real one, and jumps when a test says so."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_MS = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


class JumpingClock:
    """Begins at `start` (aware; None: the real time). Any thread may ask; one at a time may set it."""

    def __init__(self, start: datetime | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._base = (start or datetime.now(UTC)).astimezone(UTC) - timedelta(seconds=monotonic())

    def __call__(self) -> datetime:
        return self._base + timedelta(seconds=self._monotonic())

    def milliseconds(self) -> int:
        """Since the epoch."""
        return (self() - _EPOCH) // _MS

    def set_to(self, instant: datetime) -> timedelta:
        """By how much that moved it; never back."""
        by = max(timedelta(), instant - self())
        self._base += by
        return by
