"""The order to stop, and waiting that ends with it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Stopping:
    """Given once; from then on nothing new begins."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def unless(self, awaiting: Awaitable[T]) -> T | None:
        """What comes, or None if the order to stop comes first; then it is left."""
        working = asyncio.ensure_future(awaiting)
        stopping = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()
