"""Waiting longer and longer for a peer that is away."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

FIRST_SECONDS = 0.05
MAX_SECONDS = 1.0


async def backoff(jitter: Callable[[], float] = random.random) -> AsyncIterator[Callable[[], None]]:
    """Yields at once, then after 50 ms, 100 ms, ... up to 1 s, with jitter, for ever.

    What it yields is called when the peer answered: the next wait is the shortest again.
    """
    seconds = FIRST_SECONDS

    def start_over() -> None:
        nonlocal seconds
        seconds = FIRST_SECONDS

    while True:
        yield start_over
        wait, seconds = seconds, min(seconds * 2, MAX_SECONDS)
        await asyncio.sleep(wait * (0.5 + jitter() / 2))
