"""A broker over a directory that lives again and again: stopped in order, killed, or torn in the middle of a write."""

import asyncio
import itertools
import shutil
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest

from broker.broker import Broker
from broker.daemon import build
from broker.settings import BrokerSettings
from tests.support.broker_engine import FragileDisk, PowerLoss

Result = TypeVar("Result")

START_MS = 1_700_000_000_000
_SEGMENT_BYTES = 8 << 10  # far below what settings allow: segments roll within one example
_CHECKPOINT_BYTES = 1 << 30  # so that only stops and retention store one, and a life depends on its steps alone


class Lives:
    """Belongs to one test; its clock stands still until somebody sets `now_ms`, and no loop of the broker runs."""

    broker: Broker
    _disk: FragileDisk
    _death: asyncio.Future[None]

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._root = TemporaryDirectory()
        self._paths = (Path(self._root.name) / str(number) for number in itertools.count())
        self._path = next(self._paths)
        self._runner = asyncio.Runner()
        self._life = AsyncExitStack()
        self.open()

    def ask(self, call: Coroutine[object, object, Result]) -> Result:
        """What the broker answers. Raises what it refuses with, and what it died of."""
        return self._runner.run(self._unless_it_dies(call))

    async def _unless_it_dies(self, call: Coroutine[object, object, Result]) -> Result:
        calling = asyncio.ensure_future(call)
        await asyncio.wait((calling, self._death), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done() and not self._is_torn:
            calling.cancel()
            self._death.result()
        return await calling

    def open(self) -> None:
        """Begins a life where the one before ended."""
        self._disk, self._death = FragileDisk(), self._runner.get_loop().create_future()
        given = {"data": self._path, "port": 0, "disk_reserve_bytes": 0, "retention_hours": 0}
        small = {"segment_bytes": _SEGMENT_BYTES, "checkpoint_bytes": _CHECKPOINT_BYTES}
        settings = BrokerSettings.from_env(**given).model_copy(update=small)
        building = build(settings, disk=self._disk, clock=lambda: self.now_ms, die=self._died)
        self.broker = self.ask(self._life.enter_async_context(building)).broker

    def stop(self) -> None:
        """In order, with a checkpoint."""
        self.ask(self._life.aclose())

    def kill(self) -> None:
        """As SIGKILL would: whoever comes next finds the files as they lie there now."""
        left, self._path = self._path, next(self._paths)
        shutil.copytree(left, self._path, ignore=shutil.ignore_patterns("*.new"))  # those get their names beside
        self.stop()

    async def tear(self, budget: int, call: Coroutine[object, object, object]) -> None:
        """The call dies in the middle of a write, after so many bytes of it."""
        self._disk.budget = budget
        await call
        with pytest.raises(PowerLoss):
            await self._death

    @property
    def _is_torn(self) -> bool:
        return self._disk.budget is not None

    def _died(self, error: BaseException) -> None:
        """In a thread of the broker."""
        self._runner.get_loop().call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException) -> None:
        if not self._death.done():
            self._death.set_exception(error)

    def close(self) -> None:
        self.stop()
        self._runner.close()
        self._root.cleanup()
