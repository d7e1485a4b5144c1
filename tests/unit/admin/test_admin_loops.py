"""Planner and dispatcher share the free slots; starter and registrar, over stores in memory."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from admin.domain.names import AdminId, Attempt, ExecutorId, Group, HandlerName
from admin.domain.routing import Assignment
from admin.domain.run import OutcomeState, RunState
from admin.operations.fleet import Fleet, SharedFleet
from admin.operations.runs import Runs
from admin.ports import Executor, Others
from admin.scheduler.dispatcher import Dispatcher
from admin.scheduler.handover import Handover
from admin.scheduler.planner import Planner
from admin.scheduler.registrar import Registrar
from admin.scheduler.starter import Starter
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from tests.support.admin_factories import LEASE, NOW, ONE, order, run_id
from tests.support.admin_stores import Stores
from tests.support.admin_twins import SimulatedClock

pytestmark = pytest.mark.anyio


class Rung:
    """Writes down which bells rang."""

    def __init__(self) -> None:
        self.bells: list[str] = []

    def ring(self, bell: str) -> None:
        self.bells.append(bell)


class House:
    """One executor whose slots fill with what it is given, and the loops around a store in memory."""

    def __init__(self, slots: int) -> None:
        self.clock = SimulatedClock(NOW)
        books = Books(self.clock)
        self.stores = Stores(MemoryJobs(books), MemoryRuns(books), None, None)
        self.slots, self.is_draining, self.seen_at = slots, False, NOW
        self.given: list[Assignment] = []
        self.stopped: list[Attempt] = []
        self.wakeup = Rung()
        self.handover = Handover(self.stores.runs, self, self, self.wakeup, self.clock, lease=LEASE)
        fleet = Fleet(self, self.clock, LEASE)
        self.dispatcher = Dispatcher(self.stores.runs, self.handover, self.wakeup, self.clock)
        numbers = iter(range(100, 999))
        self.planner = Planner(
            self.stores.runs,
            fleet,
            self.handover,
            self.wakeup,
            self.clock,
            new_run_id=lambda: run_id(next(numbers)),
        )
        runs = Runs(self.stores.runs, fleet, self, self.wakeup, self.clock, None)
        self.starter = Starter(self.stores.runs, runs.replace, self.wakeup, self.clock)

    def list(self) -> Sequence[Executor]:
        group, handlers = Group("promotion"), frozenset({HandlerName("push")})
        used = len(self.given)
        return [Executor(ONE, "one", group, handlers, self.slots, used, self.is_draining, "", NOW, self.seen_at)]

    def assign(self, assignments: Sequence[Assignment]) -> Sequence[Assignment]:
        self.given += assignments
        return []

    def cancel(self, holder: ExecutorId, attempts: Sequence[Attempt], reason: str) -> None:
        self.stopped += attempts


async def test_slots_are_counted_once_by_planner_and_dispatcher_together():
    house = House(3)
    await house.stores.job(NOW, name="due", trigger={"every": "1h"}, shards=2)
    await house.stores.job(shards=2)
    await house.stores.add(order(1))
    await asyncio.gather(house.planner.run_once(), house.dispatcher.run_once())
    assert len(house.given) == 3
    await asyncio.gather(house.dispatcher.run_once(), house.planner.run_once())
    assert len(house.given) == 3, "no slot is free"
    house.slots = 4
    assert await house.dispatcher.run_once() == {"assigned": 1}
    assert len({each.shard.key for each in house.given}) == 4


async def test_what_is_new_waits_behind_what_had_no_slot():
    house = House(1)
    await house.stores.job(shards=2)
    await house.stores.job(NOW, name="due", trigger={"every": "1h"})
    await house.stores.add(order(1))
    await house.dispatcher.run_once()
    house.slots = 9
    assert await house.planner.run_once() == {"jobs": 1, "runs": 1}
    assert len(house.given) == 1, "the planner leaves it to the dispatcher"
    assert house.wakeup.bells.count("dispatcher") == 1
    await house.dispatcher.run_once()
    assert [each.run.job for each in house.given] == ["push", "push", "due"]
    async with house.handover.turn(of_new=True) as takers:
        assert takers is None, "there may be more"
    await house.dispatcher.run_once()
    async with house.handover.turn(of_new=True) as takers:
        assert takers is not None
    house.handover.know_left({Group("promotion")})
    async with house.handover.turn(of_new=True) as takers:
        assert takers is None


@pytest.mark.parametrize("why", ["silent", "draining", "full"])
async def test_who_is_silent_drains_or_is_full_takes_nothing(why):
    house = House(0 if why == "full" else 1)
    house.is_draining = why == "draining"
    house.seen_at = NOW - LEASE - timedelta(milliseconds=1) if why == "silent" else NOW
    async with house.handover.turn() as takers:
        assert takers is None
    assert await house.dispatcher.run_once() == {"assigned": 0}


async def test_a_queued_run_starts_when_the_one_before_it_has_ended():
    house = House(1)
    await house.stores.job(overlap="queue")
    for number in (1, 2):
        await house.stores.add(order(number))
    assert await house.starter.run_once() == {"started": 0, "skipped": 0, "stopped": 0}
    await house.dispatcher.run_once()
    await house.stores.report(house.given[0].shard.current)
    house.wakeup.bells.clear()
    assert await house.starter.run_once() == {"started": 1, "skipped": 0, "stopped": 0}
    assert house.wakeup.bells == [f"run/{run_id(2)}", "dispatcher"]


async def test_one_that_replaces_stops_what_is_under_way_and_skips_what_waits():
    house = House(1)
    await house.stores.job(overlap="replace")
    for number in (1, 2, 3):
        await house.stores.add(order(number))
    await house.dispatcher.run_once()
    assert await house.starter.run_once() == {"started": 0, "skipped": 1, "stopped": 1}
    assert house.stopped == [house.given[0].shard.current]
    assert (await house.stores.runs.get(run_id(1))).is_cancelling
    assert (await house.stores.runs.get(run_id(2))).state is RunState.SKIPPED
    assert (await house.starter.run_once())["stopped"] == 0, "it is told once"
    await house.stores.report(house.given[0].shard.current, OutcomeState.CANCELLED)
    assert (await house.starter.run_once())["started"] == 1


class Book:
    """Implements FleetBook: one other admin is awake."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.others = Others()

    async def extend(self, *said: object) -> Others:
        self.said.append(said)
        return self.others

    async def release(self, admin: AdminId) -> None: ...


async def test_the_registrar_says_who_is_linked_and_learns_of_the_others():
    house, book = House(1), Book()
    fleet = SharedFleet(house)
    registrar = Registrar(AdminId("me"), book, fleet, house.wakeup, house.clock, lease=LEASE)
    assert await registrar.run_once() == {"linked": 1, "admins": 0}
    assert book.said == [(AdminId("me"), house.list(), NOW, LEASE)]
    assert fleet.is_alone
    (mine,) = house.list()
    other = Executor(ExecutorId("two"), "two", mine.group, mine.handlers, 1, 0, False, "", NOW, NOW)
    book.others = Others([AdminId("other")], [other])
    assert await registrar.run_once() == {"linked": 1, "admins": 1}
    assert ([each.id for each in fleet.list()], fleet.is_alone) == ([ONE, "two"], False)
    book.others = Others()
    await registrar.run_once()
    assert [each.id for each in fleet.list()] == [ONE]
