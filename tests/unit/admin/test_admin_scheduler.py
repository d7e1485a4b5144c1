"""Loops one round at a time: whom the reaper tells, what the handover does with whom, and how a loop rests."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import pytest

from admin.domain.errors import Unstorable
from admin.domain.names import Attempt, ExecutorId, Group, HandlerName
from admin.domain.run import Outcome, OutcomeState, RunState, Verdict
from admin.domain.shard import Counters, Ended, ShardState
from admin.operations.attempts import Attempts
from admin.operations.fleet import Fleet
from admin.ports import Change, Changed, Decide, Executor
from admin.scheduler import loop
from admin.scheduler.dispatcher import Dispatcher
from admin.scheduler.handover import Handover
from admin.scheduler.loop import Counts, Loop
from admin.scheduler.planner import Planner
from admin.scheduler.reaper import Reaper
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from admin.wakeup.local import LocalWakeup
from tests.support.admin_factories import LEASE, NOW, ONE, order, run, run_id, shard
from tests.support.admin_stores import COUNTERS, PUSH, Stores

pytestmark = pytest.mark.anyio

EXECUTOR = Executor(ONE, "one", Group("promotion"), frozenset({HandlerName("push")}), 100, 0, False, "", NOW, NOW)
OTHER = Executor(
    ExecutorId("two"), "two", Group("other"), frozenset({HandlerName("push")}), 100, 0, False, "", NOW, NOW
)


@dataclass
class Links:
    """The fleet and the way to it; an executor that is cut is still listed, but cannot be told anything."""

    executors: Sequence[Executor] = (EXECUTOR, OTHER)
    cut: bool = False
    told: list[Attempt] = field(default_factory=list)
    released: list[Attempt] = field(default_factory=list)

    def list(self) -> Sequence[Executor]:
        return self.executors

    def assign(self, assignments):
        if self.cut:
            return assignments
        self.told += [each.shard.current for each in assignments]
        return []

    def cancel(self, holder: ExecutorId, attempts: Sequence[Attempt], reason: str) -> None: ...

    def release(self, holder: ExecutorId, attempts: Sequence[Attempt]) -> None:
        self.released += attempts


class World:
    """Loops over a store in memory, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = NOW
        clock = lambda: self.now  # noqa: E731
        self.books, self.links, self.wakeup = Books(clock), Links(), LocalWakeup()
        self.runs = MemoryRuns(self.books)
        self.stores = Stores(MemoryJobs(self.books), self.runs, None, None)
        handover = Handover(self.runs, self.links, self.links, self.wakeup, clock, lease=LEASE)
        self.dispatcher = Dispatcher(self.runs, handover, self.wakeup, clock)
        fleet, numbers = Fleet(self.links, clock, LEASE), count(100)
        new_run_id = lambda: run_id(next(numbers))  # noqa: E731
        self.planner = Planner(self.runs, fleet, handover, self.wakeup, clock, new_run_id=new_run_id)

    def states(self) -> list[ShardState]:
        return [each.state for each in self.books.shards.values()]


@dataclass
class Lapses:
    """A store of runs whose leases lapsed, some of which were extended before it looked."""

    changed: Changed

    async def claim_lapsed(self, limit: int, decide: Decide) -> Changed:
        return self.changed


async def test_only_holders_whose_lease_was_taken_are_told():
    links = Links()
    lapsed, extended = shard(index=0), shard(index=1)
    changed = Changed([(lapsed, run()), (extended, run()), None], [], [True, False, False])

    async def is_alone() -> bool:
        return False

    wakeup = LocalWakeup()
    reaper = Reaper(Lapses(changed), links, wakeup, lambda: NOW, lease=LEASE, is_alone=is_alone)
    assert await reaper.run_once() == {"extended": 0, "lost": 1}
    assert links.released == [lapsed.current]
    links.released.clear()
    changed = Changed([(extended, run())], [], [False])
    with wakeup.listen("dispatcher") as bell:
        reaper = Reaper(Lapses(changed), links, wakeup, lambda: NOW, lease=LEASE, is_alone=is_alone)
        assert await reaper.run_once() == {"extended": 0, "lost": 0}
        assert not await bell.wait(0)
    assert links.released == []


async def test_what_nobody_is_there_for_any_more_waits_at_once_and_nobody_is_lost():
    world = World()
    await world.stores.job(shards=2)
    await world.stores.add(order())
    world.links.cut = True
    assert await world.dispatcher.run_once() == {"assigned": 2}
    assert world.states() == [ShardState.WAITING] * 2
    assert [each.losses for each in world.books.shards.values()] == [0, 0]
    world.links.cut = False
    world.now += timedelta(seconds=4)
    assert await world.dispatcher.run_once() == {"assigned": 2}
    assert {attempt.term for attempt in world.links.told} == {2}


async def test_new_runs_do_not_pass_those_that_wait_in_their_group():
    world = World()
    await world.stores.job(NOW, trigger={"every": "1h"})
    await world.stores.job(NOW, name="elsewhere", group="other", trigger={"every": "1h"})
    await world.planner.run_once()
    assert world.links.told == [], "nobody has looked what waits"
    await world.dispatcher.run_once()
    await world.dispatcher.run_once()
    assert len(world.links.told) == 2
    await world.stores.job(NOW, name="second", trigger={"every": "1h"})
    await world.planner.run_once()
    assert len(world.links.told) == 3, "nothing waits: it is handed over with its fire"
    await world.stores.job(NOW, name="unoffered", handler="none", trigger={"every": "1h"})
    await world.planner.run_once()
    await world.stores.job(NOW, name="third", trigger={"every": "1h"})
    await world.stores.job(NOW, name="third-elsewhere", group="other", trigger={"every": "1h"})
    await world.planner.run_once()
    told = {world.books.runs[attempt.run_id].job for attempt in world.links.told}
    assert "third" not in told, "something older of its group waits"
    assert "third-elsewhere" in told, "which holds up no other group"
    await world.dispatcher.run_once()
    assert len(world.links.told) == 5


async def test_new_runs_wait_behind_one_that_was_handed_back():
    world = World()
    await world.dispatcher.run_once()
    await world.stores.job(NOW, trigger={"every": "1h"})
    world.links.cut = True
    await world.planner.run_once()
    assert world.states() == [ShardState.WAITING]
    world.links.cut = False
    await world.stores.job(NOW, name="second", trigger={"every": "1h"})
    await world.planner.run_once()
    assert world.links.told == []


class Failing(Loop):
    """Rounds that fail."""

    name = "failing"
    rounds = 0

    async def run_once(self) -> Counts:
        self.rounds += 1
        raise RuntimeError("no")

    def pause_seconds(self) -> float:
        return 0.0


async def _turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_loop_that_fails_rests_whoever_rings_and_stops_when_it_is_told_to(monkeypatch):
    monkeypatch.setattr(loop, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FAILURE_SECONDS", 1e6)
    wakeup = LocalWakeup()
    failing = Failing(wakeup, lambda: NOW)
    running = asyncio.create_task(failing.run())
    for _ in range(3):
        await _turns()
        wakeup.ring(failing.name)
    await _turns()
    assert failing.rounds == 1
    failing.stop()
    await asyncio.wait_for(running, 5)
    assert failing.rounds == 1


async def test_a_loop_that_fails_tries_again_behind_its_rest(monkeypatch):
    monkeypatch.setattr(loop, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "FAILURE_SECONDS", 0.0)
    failing = Failing(LocalWakeup(), lambda: NOW)
    running = asyncio.create_task(failing.run())
    await _turns(200)
    failing.stop()
    await running
    assert failing.rounds > 1


class Picky(MemoryRuns):
    """Cannot keep one result."""

    async def finish(self, changes: Sequence[Change]) -> Changed:
        for key, decide in changes:
            held = self._books.shards[key]
            event = decide(held, self._books.runs[key.run_id], self._books.begin())
            if isinstance(event, Ended) and event.result == "unfit":
                raise Unstorable(reason="too odd")
        return await super().finish(changes)


async def test_an_outcome_that_cannot_be_kept_is_a_failure_and_costs_the_others_nothing():
    books = Books(lambda: NOW)
    runs = Picky(books)
    stores = Stores(MemoryJobs(books), runs, None, None)
    await stores.job(shards=3, retry={"attempts": 3})
    started = await stores.add(order())
    attempts = [each.shard.current for each in await stores.assign()]
    operations = Attempts(runs, LocalWakeup(), LEASE)
    outcomes = [
        Outcome(attempt, OutcomeState.SUCCEEDED, COUNTERS, result="unfit" if attempt.index == 1 else "{}")
        for attempt in attempts
    ]
    verdicts: Mapping[Attempt, Verdict] = await operations.report(EXECUTOR, outcomes)
    assert verdicts == dict.fromkeys(attempts, Verdict.ACCEPTED)
    first, unfit, third = await stores.runs.list_shards(started.id)
    assert (first.state, third.state, first.counters) == (ShardState.SUCCEEDED, ShardState.SUCCEEDED, COUNTERS)
    assert (unfit.state, unfit.fault.code, unfit.counters) == (ShardState.FAILED, "unstorable", Counters())
    assert "too odd" in unfit.fault.message
    (listed,) = await stores.runs.list(job=PUSH, state=None, before=None, limit=9)
    assert listed.state is RunState.FAILED
