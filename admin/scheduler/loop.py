"""The skeleton of every loop: once when woken, again when due; a failure is logged and tried again."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar

import structlog

from admin.ports import Clock, Wakeup
from protos.errors import ShardcastError

log = structlog.get_logger(__name__)

Counts = Mapping[str, int]
FAILURE_SECONDS = 1.0  # pause behind a failure
TICK_SECONDS = 0.01
"""Rounds begin no closer to each other, so that under load each does much at once; nothing waits longer for that."""


class Loop(ABC):
    """Runs `run_once` whenever its bell, which has its name, rings, and else after the pause that it asks for."""

    name: ClassVar[str]

    def __init__(self, wakeup: Wakeup, clock: Clock) -> None:
        self._wakeup = wakeup
        self._clock = clock
        self._stopping = asyncio.Event()

    @abstractmethod
    async def run_once(self) -> Counts:
        """One round."""

    @abstractmethod
    def pause_seconds(self) -> float:
        """How long to wait behind the last round if nobody rings."""

    async def run(self) -> None:
        """Until `stop`; the round that was begun is finished."""
        with self._wakeup.listen(self.name) as bell:
            while not self._stopping.is_set():
                next_at = time.monotonic() + TICK_SECONDS
                pause = await self._round()
                if pause > 0:
                    await bell.wait(pause)
                if not self._stopping.is_set():
                    await asyncio.sleep(next_at - time.monotonic())

    def clock_was_set(self) -> None:
        """What is due by now is found now."""
        self._wakeup.ring(self.name)

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.ring(self.name)

    async def _round(self) -> float:
        try:
            await self.run_once()
        except ShardcastError as error:  # a database that is away, say: no fault of this code
            log.warning("round failed", action="round_failed", loop=self.name, error=str(error))
            return FAILURE_SECONDS
        except Exception as error:  # the loop outlives whatever befalls one round
            log.error("round failed", action="round_failed", loop=self.name, exc_info=error)
            await self._rest(FAILURE_SECONDS)
            return 0.0
        return self.pause_seconds()

    async def _rest(self, seconds: float) -> None:
        """Whoever rings; until `stop` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
