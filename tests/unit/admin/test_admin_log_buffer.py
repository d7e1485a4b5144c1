"""The buffer of log lines: its chunks, its bounds, and what it says of what it dropped."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from admin.domain.errors import StoreUnavailable
from admin.domain.logs import CHUNK_COST, LINE_COST, MAX_CHUNK_BYTES, LogCaps, LogChunk, LogLine, Position
from admin.domain.names import Attempt, RunId
from admin.operations.logs import buffer as log_buffer
from admin.operations.logs.buffer import CHUNKS_A_WRITE, SILENCE, LogBuffer
from admin.operations.runs import bell_of
from admin.store.memory.logs import MemoryRunLogs
from admin.wakeup.local import LocalWakeup
from protos.errors import InvalidArgument
from tests.support.admin_factories import NOW, order

pytestmark = pytest.mark.anyio

RUN = order(1).id
ONE, TWO = Attempt(RUN, 0, 1), Attempt(RUN, 1, 1)
LINE = LogLine(NOW, 20, "x" * (1000 - LINE_COST))


@dataclass
class Store(MemoryRunLogs):
    """Counts calls, and is unavailable when the test says."""

    calls: list[int] = field(default_factory=list)
    is_away: bool = False
    gate: asyncio.Event | None = None

    def __post_init__(self) -> None:
        super().__init__()

    async def add(self, chunks: Sequence[LogChunk], now: datetime, run_bytes: int) -> Collection[RunId]:
        """Goes on to its end when who waits for it is cut off, as a transaction does."""
        return await asyncio.shield(asyncio.ensure_future(self._add(chunks, now, run_bytes)))

    async def _add(self, chunks: Sequence[LogChunk], now: datetime, run_bytes: int) -> Collection[RunId]:
        if self.is_away:
            raise StoreUnavailable(reason="away")
        if self.gate is not None:
            await self.gate.wait()
        self.calls.append(len(chunks))
        return await super().add(chunks, now, run_bytes)


@dataclass
class World:
    attempt_bytes: int = 1 << 20
    run_bytes: int = 16 << 20
    now: datetime = NOW
    store: Store = field(default_factory=Store)
    wakeup: LocalWakeup = field(default_factory=LocalWakeup)

    def __post_init__(self) -> None:
        caps = LogCaps(self.attempt_bytes, self.run_bytes)
        self.buffer = LogBuffer(self.store, self.wakeup, lambda: self.now, caps)

    def log(self, attempt: Attempt, *texts: str, dropped: int = 0) -> None:
        self.buffer.add(attempt, 1, [LogLine(NOW, 20, text) for text in texts], dropped)

    async def said(self, run_id: RunId = RUN) -> list[str]:
        lines = await self.store.list(run_id, after=Position(), shard=None, limit=100_000)
        return [f"-{line.dropped}" if line.dropped else line.line.text for line in lines]


async def test_what_attempts_logged_is_written_together_and_rings_the_runs_bell():
    world = World()
    with world.wakeup.listen(bell_of(RUN)) as bell:
        world.log(ONE, "a")
        world.log(TWO, "b", dropped=2)
        world.log(TWO, "c")
        world.log(ONE, "d")
        assert await world.said() == []
        assert await world.buffer.flush() == 3
        assert await bell.wait(0)
    assert world.store.calls == [3]
    assert await world.said() == ["a", "d", "b", "-2", "c"]
    assert await world.buffer.flush() == 0


async def test_lines_are_cut_into_chunks_and_writes_of_bounded_size():
    world = World(attempt_bytes=1 << 30, run_bytes=1 << 30)
    per_chunk = MAX_CHUNK_BYTES // 1000
    world.buffer.add(ONE, 1, [LINE] * (per_chunk * CHUNKS_A_WRITE + 1), 0)
    assert await world.buffer.flush() == CHUNKS_A_WRITE + 1
    assert world.store.calls == [CHUNKS_A_WRITE, 1]


async def test_an_attempt_has_its_cap_and_tells_at_its_end_what_went_beyond():
    world = World(attempt_bytes=3 * (LINE_COST + 1))
    world.log(ONE, *"abcd")
    world.log(TWO, "x")
    await world.buffer.flush()
    assert await world.said() == ["a", "b", "c", "-1", "x"]
    world.log(ONE, "e", dropped=4)
    assert await world.buffer.flush() == 0, "not a row for each batch that is dropped"
    await world.buffer.finish([ONE])
    assert await world.said() == ["a", "b", "c", "-1", "x", "-5"]
    world.log(Attempt(RUN, 0, 2), "again")
    await world.buffer.flush()
    assert (await world.said())[-1] == "again", "another attempt has a cap of its own"


async def test_a_full_run_takes_no_more_lines_of_any_attempt():
    world = World(run_bytes=2 * (CHUNK_COST + LINE_COST + 1))
    for text in "abc":
        world.log(ONE, text)
        await world.buffer.flush()
    world.log(TWO, "d")
    await world.buffer.flush()
    assert await world.said() == ["a", "b", "-1", "-1"]
    for _ in range(9):
        world.log(ONE, "e")
        await world.buffer.flush()
    assert len(world.store.calls) == 4
    await world.buffer.finish([ONE, TWO])
    assert await world.said() == ["a", "b", "-1", "-1", "-9"]


async def test_what_the_store_does_not_take_waits_within_bounds(monkeypatch):
    monkeypatch.setattr(log_buffer, "MAX_WAITING_BYTES", 2 * (LINE_COST + 1))
    world = World()
    world.store.is_away = True
    world.log(ONE, *"ab")
    with pytest.raises(StoreUnavailable):
        await world.buffer.flush()
    world.log(TWO, *"cd")
    await world.buffer.finish([ONE])
    world.store.is_away = False
    await world.buffer.flush()
    assert await world.said() == ["a", "b", "-2"]
    world.log(TWO, *"ef")
    await world.buffer.flush()
    assert (await world.said())[-2:] == ["e", "f"], "there is room again"


async def test_the_end_of_an_attempt_waits_for_lines_that_are_being_written():
    world = World()
    world.store.gate = asyncio.Event()
    world.log(ONE, "a")
    flushing = asyncio.create_task(world.buffer.flush())
    await asyncio.sleep(0)
    ending = asyncio.create_task(world.buffer.finish([ONE]))
    await asyncio.sleep(0)
    assert not ending.done()
    world.store.gate.set()
    await ending
    assert await world.said() == ["a"]
    await flushing


async def test_who_is_cut_off_while_lines_are_written_has_them_written_once():
    world = World()
    world.store.gate = asyncio.Event()
    world.log(ONE, "a")
    world.log(TWO, "b")
    cut_off = asyncio.create_task(world.buffer.flush())
    for _ in range(3):
        await asyncio.sleep(0)
    cut_off.cancel()
    world.log(ONE, "c")
    again = asyncio.create_task(world.buffer.flush())
    for _ in range(3):
        await asyncio.sleep(0)
    world.store.gate.set()
    await again
    assert cut_off.cancelled()
    assert sorted(await world.said()) == ["a", "b", "c"]


async def test_an_attempt_without_lines_asks_nothing_of_the_store():
    world = World()
    await world.buffer.finish([ONE, TWO])
    assert world.store.calls == []


async def test_an_attempt_that_fell_silent_tells_what_it_dropped_and_is_forgotten():
    world = World(attempt_bytes=LINE_COST + 1)
    world.log(ONE, *"ab")
    await world.buffer.flush()
    world.log(ONE, "c")
    world.now += SILENCE * 2
    world.buffer.release()
    await world.buffer.flush()
    assert await world.said() == ["a", "-1", "-1"]
    world.log(ONE, "d")
    await world.buffer.flush()
    assert (await world.said())[-1] == "d"


@pytest.mark.parametrize("text", ["x", "1", "1.", ".1", "1.x", "-1.0", "1.2.3", "١.٢", "9" * 30 + ".0"])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(InvalidArgument):
        Position.parse(text)
