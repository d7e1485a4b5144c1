"""The admin's stores over memory and every database, for suites that hold for all of them.

No test moves the clock: on a server nobody can. A lease of no time has lapsed at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from admin.domain.job import Job
from admin.domain.names import Attempt, Group, HandlerName, JobName
from admin.domain.overlap import Active
from admin.domain.plan import Order, plan, run_of
from admin.domain.routing import Assignment, Room, route
from admin.domain.run import Outcome, OutcomeState, Run, on_cancel, on_outcome
from admin.domain.shard import Counters, Shard
from admin.ports import Change, Changed, Due, FleetBook, JobStore, Offer, RunLogs, RunStore, Takers, TokenStore
from admin.store import schema
from admin.store.databases.database import Database
from admin.store.databases.server import ServerDatabase
from admin.store.databases.sqlite import SqliteDatabase
from admin.store.fleet import SqlFleet
from admin.store.jobs import SqlJobs
from admin.store.logs import SqlRunLogs
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.logs import MemoryRunLogs
from admin.store.memory.runs import MemoryRuns
from admin.store.memory.tokens import MemoryTokens
from admin.store.opening import is_shared
from admin.store.runs.definitions import Definitions
from admin.store.runs.runs import SqlRuns
from admin.store.tokens import SqlTokens
from tests.support.admin_databases import KINDS, fresh_database
from tests.support.admin_factories import ONE, definition, run_id

PUSH = JobName("push")
ROOM = Room(ONE, "name of one", Group("promotion"), frozenset({HandlerName("push")}), 1000, 0)
OFFERS = {Group("promotion"): Offer(frozenset({HandlerName("push")}), 1000)}
LONG = timedelta(hours=1)
COUNTERS = Counters(3, 2, "[1]", counts='{"sent":5}')


def takers(lease: timedelta = LONG, offers: Mapping[Group, Offer] = OFFERS) -> Takers:
    return Takers(lease, offers, lambda waiting: route(waiting, [ROOM]))


@dataclass
class Stores:
    """What a suite needs; `now` is what the stores take for now."""

    jobs: JobStore
    runs: RunStore
    tokens: TokenStore
    logs: RunLogs
    database: Database | None = None
    fleet: FleetBook | None = None

    async def job(self, first: datetime | None = None, **fields: object) -> Job:
        return await self.jobs.add(definition(**fields), lambda now: first)

    async def add(self, wanted: Order, alive: Mapping[Group, int] | None = None, job: JobName = PUSH) -> Run:
        def made(job: Job, now: datetime, active: Active) -> Run:
            executors = (alive or {}).get(job.definition.group, 0)
            return run_of(job, wanted, now, active, executors=executors)

        return await self.runs.add(job, wanted.cause, wanted.key, made)

    async def plan(self, numbers: Iterator[int], takers: Takers | None = None) -> Due:
        def planned(job: Job, now: datetime, active: Active):
            return plan(job, now, active, executors=0, new_id=lambda: run_id(next(numbers)))

        return await self.runs.claim_due(99, planned, takers)

    async def assign(self, lease: timedelta = LONG, slots: int = 1000) -> list[Assignment]:
        offers = {Group("promotion"): Offer(frozenset({HandlerName("push")}), slots)}
        return list(await self.runs.claim_waiting(takers(lease, offers)))

    async def report(self, attempt: Attempt, state: OutcomeState = OutcomeState.SUCCEEDED, **fields: object) -> Changed:
        outcome = Outcome(attempt, state, COUNTERS, **fields)
        decide = lambda shard, run, now: on_outcome(shard, outcome, run, now)  # noqa: E731
        return await self.runs.finish([Change(attempt.shard, decide)])

    async def cancel(self, run: Run) -> tuple[Run, Sequence[Shard]]:
        return await self.runs.cancel(run.id, on_cancel, "cancelled on request")


@contextmanager
def sql_stores(url: str) -> Iterator[Stores]:
    """Over a database that is brought up to date first."""
    schema.upgrade(url)
    database = open_database(url)
    definitions = Definitions()
    try:
        yield Stores(
            SqlJobs(database, definitions),
            SqlRuns(database, definitions, look_again),
            SqlTokens(database, lambda: 0.0),
            SqlRunLogs(database),
            database,
            SqlFleet(database),
        )
    finally:
        database.close()


def open_database(url: str) -> Database:
    return ServerDatabase(url) if is_shared(url) else SqliteDatabase(url, utc_now)


def memory_stores() -> Stores:
    books = Books(utc_now)
    return Stores(MemoryJobs(books), MemoryRuns(books), MemoryTokens(), MemoryRunLogs())


def look_again() -> float:
    """A clock by which what was looked up is always too old."""
    return next(_ticks)


_ticks = count(0.0, 1e6)


def utc_now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(params=["memory", *KINDS])
def stores(request, tmp_path) -> Iterator[Stores]:
    if request.param == "memory":
        yield memory_stores()
    elif request.param == "sqlite":
        with sql_stores(f"sqlite:///{tmp_path / 'admin.db'}") as found:
            yield found
    else:
        with (
            fresh_database(request.getfixturevalue(f"{request.param}_server")) as url,
            sql_stores(url) as found,
        ):
            yield found
