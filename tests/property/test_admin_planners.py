"""Two planners on one store, which crash, while the clock is set forwards and back: no fire is lost or doubled."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, takewhile
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from admin.domain.job import Job
from admin.domain.names import JobName
from admin.domain.overlap import Active
from admin.domain.plan import CATCH_UP, GRACE, Planned, plan
from admin.domain.trigger import Trigger, due_at, next_fire
from admin.operations.fleet import Fleet
from admin.operations.jobs import Jobs
from admin.ports import Due
from admin.store.databases.sqlite import SqliteDatabase
from admin.store.jobs import SqlJobs
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from admin.store.runs.definitions import Definitions
from admin.store.runs.runs import SqlRuns
from tests.support.admin_factories import LEASE, NOW, definition, run_id
from tests.support.admin_stores import Stores, look_again
from tests.support.admin_twins import Nobody, Silent, SimulatedClock, sqlite_on, wipe

TRIGGERS = (
    {"every": "17m"},
    {"every": "10m", "start": "2026-11-22T09:20:00.250Z", "end": "2026-11-22T15:00:00Z"},
    {"cron": "0 */20 * * * ?"},
    {"unix": "*/15 * * * *", "jitter": "4m"},
    {"any": [{"every": "50m"}, {"at": "2026-11-22T10:00:01Z"}]},
    {"at": "2026-11-22T10:00:00Z"},
)
MISFIRES = ("fire_all", "fire_once", "skip")
STEPS = (1, 3, 30, 600, 600, 3600, 7 * 3600, -1, -600, -3600, -5 * 3600)  # seconds


class Crash(Exception):
    """The planner is gone in the middle of its transaction."""


@dataclass
class Expected:
    """What is to become of one job's fires: by the model, which knows when somebody looked."""

    trigger: Trigger
    name: JobName
    misfire: str
    begun_at: datetime  # it is awake from then on
    looked_at: datetime
    is_paused: bool = False
    required: set[datetime] = field(default_factory=set)
    allowed: set[datetime] = field(default_factory=set)

    def seen(self, now: datetime) -> Sequence[datetime]:
        """Somebody looked, and may have served what is due."""
        fires = [] if self.is_paused else list(takewhile(lambda fire: fire <= now, _fires(self.trigger, self.begun_at)))
        self.allowed.update(fires)
        return fires

    def may_have_looked(self, now: datetime) -> None:
        """Somebody may have served what is due, or left it to its misfire policy."""
        self.looked_at = max(self.looked_at, now)

    def look(self, now: datetime) -> None:
        """A planner has served all that is due."""
        if self.is_paused:
            return
        bound = CATCH_UP if self.misfire == "fire_all" else GRACE
        for fire in self.seen(now):
            due = due_at(self.trigger, fire, self.name)
            is_bound = (fire if self.misfire == "fire_all" else due) >= now - bound
            if self.looked_at < due <= now and fire > self.begun_at and is_bound:
                self.required.add(fire)
        self.looked_at = max(self.looked_at, now)

    def resume(self, now: datetime) -> None:
        if self.is_paused:
            self.is_paused, self.begun_at, self.looked_at = False, now, max(self.looked_at, now)

    def check(self, served: Counter[datetime]) -> None:
        doubled = [fire for fire, times in served.items() if times > 1]
        assert not doubled, f"{self.name}: two runs for {doubled}"
        assert self.required <= served.keys(), f"{self.name}: no run for {sorted(self.required - served.keys())}"
        assert served.keys() <= self.allowed, f"{self.name}: nobody named {sorted(served.keys() - self.allowed)}"


def _fires(trigger: Trigger, after: datetime | None) -> Iterator[datetime]:
    while after is not None and (after := next_fire(trigger, after)) is not None:
        yield after


class Planners(RuleBasedStateMachine):
    """Two that take turns, or look at the same time; each may be gone before, in or behind its transaction."""

    clock: ClassVar[SimulatedClock]
    runner: ClassVar[asyncio.Runner]
    database: ClassVar[SqliteDatabase | None]

    def __init__(self) -> None:
        super().__init__()
        self.clock.now = NOW
        self.stores = self._stores()
        fleet = Fleet(Nobody(), self.clock, LEASE)
        self.jobs = Jobs(self.stores.jobs, self.stores.runs, fleet, Silent(), self.clock, None)
        self.numbers = count(1)
        self.expected: dict[JobName, Expected] = {}

    def _stores(self) -> Stores:
        if self.database is None:
            books = Books(self.clock)
            return Stores(MemoryJobs(books), MemoryRuns(books), None, None)
        self.runner.run(wipe(self.database))
        definitions = Definitions()
        return Stores(SqlJobs(self.database, definitions), SqlRuns(self.database, definitions, look_again), None, None)

    @initialize(triggers=st.tuples(*[st.sampled_from(TRIGGERS)] * 3))
    def begin(self, triggers: tuple[dict[str, Any], ...]) -> None:
        for misfire, trigger in zip(MISFIRES, triggers, strict=True):
            new = definition(name=misfire, trigger=trigger, misfire=misfire, overlap="allow")
            self.runner.run(self.jobs.create(new))
            self.expected[new.name] = Expected(new.trigger, new.name, misfire, NOW, NOW)

    @rule(seconds=st.sampled_from(STEPS))
    def the_clock_is_set(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule(is_told=st.booleans())
    def one_plans(self, is_told: bool) -> None:
        """Or is gone behind its transaction, which is the same to the others."""
        self.drain()

    @rule()
    def one_plans_a_little(self) -> None:
        self.runner.run(self._claim(1))
        self.somebody_may_have_looked()

    @rule()
    def both_plan(self) -> None:
        async def both() -> list[Due]:
            return await asyncio.gather(self._claim(99), self._claim(99))

        self.runner.run(both())
        self.somebody_may_have_looked()

    def somebody_may_have_looked(self) -> None:
        for each in self.expected.values():
            each.may_have_looked(self.clock.now)

    @rule(after=st.integers(0, 2))
    def one_is_gone_in_its_transaction(self, after: int) -> None:
        with suppress(Crash):
            self.runner.run(self._claim(99, after))

    @rule(misfire=st.sampled_from(MISFIRES))
    def somebody_pauses(self, misfire: str) -> None:
        self.drain()
        self.runner.run(self.jobs.pause(JobName(misfire)))
        self.expected[JobName(misfire)].is_paused = True

    @rule(misfire=st.sampled_from(MISFIRES))
    def somebody_resumes(self, misfire: str) -> None:
        name = JobName(misfire)
        with suppress(Exception):  # where no fire is to come
            self.runner.run(self.jobs.resume(name))
            self.expected[name].resume(self.clock.now)

    def drain(self) -> None:
        """Rounds until nothing is due."""
        while self.runner.run(self._claim(99)).jobs:
            pass
        for each in self.expected.values():
            each.look(self.clock.now)

    async def _claim(self, limit: int, crash_after: int | None = None) -> Due:
        calls = count()

        def planned(job: Job, now: datetime, active: Active) -> Planned:
            if next(calls) == crash_after:
                raise Crash
            return plan(job, now, active, executors=0, new_id=lambda: run_id(next(self.numbers)))

        for each in self.expected.values():
            each.seen(self.clock.now)
        return await self.stores.runs.claim_due(limit, planned, None)

    def teardown(self) -> None:
        self.drain()
        runs = self.runner.run(self.stores.runs.list(job=None, state=None, before=None, limit=100_000))
        for name, each in self.expected.items():
            each.check(Counter(run.fire_at for run in runs if run.job == name))


@pytest.fixture(params=["memory", "sqlite"])
def machine(request: pytest.FixtureRequest, tmp_path) -> Iterator[type[Planners]]:
    clock = SimulatedClock(NOW)
    with asyncio.Runner() as runner:
        if request.param == "memory":
            yield type("Machine", (Planners,), {"clock": clock, "runner": runner, "database": None})
            return
        with sqlite_on(tmp_path, clock) as database:
            yield type("Machine", (Planners,), {"clock": clock, "runner": runner, "database": database})


@pytest.mark.slow
def test_whoever_plans_and_whatever_the_clock_says_no_fire_is_lost_or_doubled(machine: type[Planners]) -> None:
    fast = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=fast)
