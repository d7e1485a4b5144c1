"""Bells inside one process."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class LocalBell:
    """Implements Bell."""

    def __init__(self) -> None:
        self._rang = asyncio.Event()

    def ring(self) -> None:
        self._rang.set()

    async def wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._rang.wait()
        except TimeoutError:
            return False
        self._rang.clear()
        return True


class LocalWakeup:
    """Implements Wakeup where one admin is alone; several find by polling what others have rung for."""

    def __init__(self) -> None:
        self._listening: defaultdict[str, list[LocalBell]] = defaultdict(list)

    async def run(self) -> None:
        """Returns at once: no ring leaves this process."""

    def ring(self, bell: str) -> None:
        for listener in self._listening.get(bell, ()):
            listener.ring()

    @contextmanager
    def listen(self, bell: str) -> Iterator[LocalBell]:
        mine = LocalBell()
        self._listening[bell].append(mine)
        try:
            yield mine
        finally:
            self._listening[bell].remove(mine)
            if not self._listening[bell]:
                del self._listening[bell]
