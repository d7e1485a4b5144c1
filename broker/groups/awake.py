"""Time as the groups count it: only while this process could hear its members."""

import time
from collections.abc import Callable

LONGEST_STEP_SECONDS = 0.5
TICK_SECONDS = 0.25


class AwakeTime:
    """Seconds since it was made, without those in which the process stood still.

    Nobody's beat is heard meanwhile, so nobody's session may run out by it. A step between two looks counts for half a
    second at most: look often. Never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._seconds = 0.0

    def __call__(self) -> float:
        now = self._clock()
        self._seconds += min(now - self._looked, LONGEST_STEP_SECONDS)
        self._looked = now
        return self._seconds
