"""Writes the lines that wait, about twice a second."""

from admin.operations.logs.buffer import BELL, LogBuffer
from admin.ports import Clock, Wakeup
from admin.scheduler.loop import Counts, Loop

PERIOD_SECONDS = 0.5


class LogWriter(Loop):
    """What attempts logged is written with their reports; this is for those that run on."""

    name = BELL

    def __init__(self, buffer: LogBuffer, wakeup: Wakeup, clock: Clock) -> None:
        super().__init__(wakeup, clock)
        self._buffer = buffer

    async def run_once(self) -> Counts:
        self._buffer.release()
        return {"chunks": await self._buffer.flush()}

    def pause_seconds(self) -> float:
        return PERIOD_SECONDS
