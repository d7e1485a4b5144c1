"""An admin whose clock is set forward: whoever is alive keeps what it holds, at once and in the middle of a round."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from admin.app import build
from admin.dispatch.grpc_session import Session, Sessions
from admin.domain.names import Attempt, ExecutorId, Group, HandlerName
from admin.domain.run import Outcome, OutcomeState, Verdict
from admin.domain.shard import ShardState
from admin.operations.attempts import Attempts
from admin.ports import Changed, Decide, Executor
from admin.scheduler.dispatcher import Dispatcher
from admin.scheduler.handover import Handover
from admin.scheduler.loop import Loop
from admin.scheduler.reaper import Reaper
from admin.settings import AdminSettings
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from admin.wakeup.local import LocalWakeup
from tests.support.admin_factories import LEASE, NOW, ONE, order
from tests.support.admin_stores import COUNTERS, Stores

pytestmark = pytest.mark.anyio

EXECUTOR = Executor(ONE, "one", Group("promotion"), frozenset({HandlerName("push")}), 8, 0, False, "", NOW, NOW)


async def _always() -> bool:
    return True


class SlowRuns(MemoryRuns):
    """Something may happen before a claim of lapsed leases begins."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.before_claim: Any = lambda: None

    async def claim_lapsed(self, limit: int, decide: Decide) -> Changed:
        self.before_claim()
        return await super().claim_lapsed(limit, decide)


class House:
    """One executor that holds one shard, and the reaper."""

    def __init__(self) -> None:
        self.now = NOW
        clock = lambda: self.now  # noqa: E731
        books = Books(clock)
        self.runs, self.released = SlowRuns(books), list[Attempt]()
        self.stores = Stores(MemoryJobs(books), self.runs, None, None)
        self.books, self.sessions, wakeup = books, Sessions(), LocalWakeup()
        self.sessions.open(Session(EXECUTOR))
        handover = Handover(self.runs, self.sessions, self.sessions, wakeup, clock, lease=LEASE)
        self.dispatcher = Dispatcher(self.runs, handover, wakeup, clock)
        self.reaper = Reaper(self.runs, self, wakeup, clock, lease=LEASE, is_alone=_always)
        self.attempts = Attempts(self.runs, wakeup, LEASE)

    def release(self, holder: ExecutorId, attempts: Sequence[Attempt]) -> None:
        self.released += attempts

    def set_clock(self, by: timedelta) -> None:
        """As Admin.clock_was_set."""
        self.now += by
        self.sessions.shift(by)
        self.reaper.clock_was_set()

    async def begin(self) -> None:
        await self.stores.job(shards=1)
        await self.stores.add(order())
        assert await self.dispatcher.run_once() == {"assigned": 1}
        await self.reaper.run_once()
        await self.reaper.run_once()

    @property
    def state(self) -> ShardState:
        (shard,) = self.books.shards.values()
        return shard.state


@pytest.mark.parametrize("by", [LEASE / 4, LEASE * 0.49, LEASE * 3, timedelta(days=30)])
async def test_no_lease_lapses_however_often_and_far_the_clock_is_set(by: timedelta) -> None:
    house = House()
    await house.begin()
    for _ in range(20):
        house.set_clock(by)
        assert (await house.reaper.run_once())["lost"] == 0
    assert (house.state, house.released) == (ShardState.ASSIGNED, [])


async def test_a_clock_that_is_set_within_a_round_takes_no_lease() -> None:
    house = House()
    await house.begin()
    house.runs.before_claim = lambda: house.set_clock(timedelta(hours=1))
    assert await house.reaper.run_once() == {"extended": 0, "lost": 0}
    house.runs.before_claim = lambda: None
    assert await house.reaper.run_once() == {"extended": 1, "lost": 0}
    assert house.state is ShardState.ASSIGNED


async def test_who_falls_silent_behind_that_still_loses_its_shard_within_a_lease() -> None:
    house = House()
    await house.begin()
    house.set_clock(timedelta(hours=1))
    await house.reaper.run_once()
    lost = 0
    for _ in range(12):
        house.now += LEASE / 10
        lost += (await house.reaper.run_once())["lost"]
    assert (lost, house.state, len(house.released)) == (1, ShardState.WAITING, 1)
    late = Outcome(house.released[0], OutcomeState.SUCCEEDED, COUNTERS)
    assert list((await house.attempts.report(EXECUTOR, [late])).values()) == [Verdict.SUPERSEDED]


async def test_every_loop_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Loop, "clock_was_set", lambda loop: told.append(loop.name))
    monkeypatch.setattr(Reaper, "clock_was_set", Loop.clock_was_set)
    async with build(AdminSettings(data=tmp_path, http_port=0, grpc_port=0)) as admin:
        admin.clock_was_set(timedelta(hours=1))
    assert {"planner", "starter", "dispatcher", "reaper", "pruner"} <= set(told)


def test_who_was_silent_for_a_while_is_so_for_no_longer() -> None:
    house = House()
    house.now += LEASE / 2
    house.set_clock(timedelta(hours=1))
    (executor,) = house.sessions.list()
    assert house.now - executor.seen_at == LEASE / 2
    assert executor.is_alive(house.now, LEASE)
