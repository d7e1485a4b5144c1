"""The admin's stores over SQLite and in memory side by side, on one clock: what is done to one is done to the other,
and the same comes of it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from admin.domain.job import Job
from admin.domain.names import ExecutorId, Group, HandlerName, RunId
from admin.domain.routing import Assignment
from admin.domain.run import Run
from admin.domain.shard import HELD, Shard, ShardState
from admin.operations.attempts import Attempts
from admin.operations.fleet import Fleet
from admin.operations.jobs import Jobs
from admin.operations.runs import Runs
from admin.ports import Changed, Clock, Due, Executor, Turned
from admin.store import schema
from admin.store.databases.sqlite import SqliteDatabase
from admin.store.jobs import SqlJobs
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from admin.store.runs.definitions import Definitions
from admin.store.runs.runs import SqlRuns
from admin.store.tables import metadata
from protos.errors import ShardcastError
from tests.support.admin_factories import LEASE, run_id
from tests.support.admin_stores import Stores, look_again

GROUPS = (Group("promotion"), Group("other"))
HANDLERS = frozenset({HandlerName("push")})


T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that never waits, as none of the stores in memory does."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


class Nobody:
    """A fleet without executors."""

    def list(self) -> list[Executor]:
        return []


class Silent:
    """Neither rings nor dispatches."""

    def ring(self, bell: str) -> None: ...

    def cancel(self, *order: object) -> None: ...


class Linked:
    """A fleet of two executors in each group, always alive."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def list(self) -> Sequence[Executor]:
        now = self._clock()
        return [
            Executor(ExecutorId(f"{group}-{number}"), f"{group} {number}", group, HANDLERS, 9, 0, False, "", now, now)
            for group in GROUPS
            for number in (1, 2)
        ]


class Twin:
    """One of the two, with the operations that the admin has over it; its runs and jobs are counted by themselves."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self.stores = stores
        self.numbers = count(1)
        self._ids: defaultdict[str, dict[int, int]] = defaultdict(dict)
        fleet, silent = Fleet(Linked(clock), clock, LEASE), Silent()
        self.jobs = Jobs(stores.jobs, stores.runs, fleet, silent, clock, self.new_run_id)
        self.runs = Runs(stores.runs, fleet, silent, silent, clock, self.new_run_id)
        self.attempts = Attempts(stores.runs, silent, LEASE)

    def new_run_id(self) -> RunId:
        return run_id(next(self.numbers))

    async def outcome(self, work: Callable[["Twin"], Awaitable[object]]) -> object:
        """What it gives or raises, without what is nobody's business."""
        try:
            return self._plain(await work(self))
        except ShardcastError as error:
            return type(error), str(error)

    def _plain(self, value: Any) -> Any:
        match value:
            case Job():
                ids = self._id("job", value.id), self._id("definition", value.definition_id)
                return value._replace(id=ids[0], definition_id=ids[1])
            case Run():
                ids = self._id("job", value.job_id), self._id("definition", value.definition_id)
                return value._replace(job_id=ids[0], definition_id=ids[1])
            case Shard():
                return _promised(value)
            case Due(jobs, runs, assignments, wait):
                return [jobs, self._plain(runs), self._plain(assignments), wait]
            case [Assignment(), *_]:
                in_order = sorted(value, key=lambda each: each.shard.key)
                return [[self._plain(part) for part in each] for each in in_order]
            case Turned(started, ended, stop):
                return [self._plain(sorted(each, key=lambda run: run.id)) for each in (started, ended, stop)]
            case Changed(before, runs):
                return self._plain(before), self._plain(sorted(runs, key=lambda run: run.id))
            case Mapping():
                return {key: self._plain(item) for key, item in value.items() if item not in (None, 0)}
            case list() | tuple():
                return [self._plain(item) for item in value]
            case _:
                return value

    def _id(self, kind: str, key: int) -> int:
        """By rank: the two count their rows differently."""
        return self._ids[kind].setdefault(key, len(self._ids[kind]))


def _promised(shard: Shard) -> Shard:
    """Who held a shard matters while it is held, and when it is due while it waits; the history forgets both."""
    holder = shard.holder if shard.state in HELD else None
    return shard._replace(holder=holder, due_at=shard.due_at if shard.state is ShardState.WAITING else None)


class Twins:
    """Both, and their clock."""

    def __init__(self, database: SqliteDatabase, clock: Clock, runner: asyncio.Runner) -> None:
        self._runner = runner
        definitions, books = Definitions(), Books(clock)
        sql = Stores(SqlJobs(database, definitions), SqlRuns(database, definitions, look_again), None, None)
        self.both = (Twin(sql, clock), Twin(Stores(MemoryJobs(books), MemoryRuns(books), None, None), clock))

    def do(self, work: Callable[[Twin], Awaitable[object]]) -> Any:
        """What came of it in both; fails where that differs."""
        sql, memory = [self._runner.run(twin.outcome(work)) for twin in self.both]
        assert sql == memory, "\n".join(_differences(sql, memory))
        return memory

    def see(self, watched: Collection[RunId]) -> Sequence[Run]:
        """Jobs, runs and the shards of some runs; gives the runs, newest first."""
        self.do(lambda twin: twin.stores.jobs.list(group=None, after=None, limit=99))
        runs: Sequence[Run] = self.do(lambda twin: twin.stores.runs.list(job=None, state=None, before=None, limit=999))
        self.do(lambda twin: twin.stores.runs.get_tally())
        for each in watched:
            self.do(lambda twin, each=each: twin.stores.runs.list_shards(each))
        return runs


def _differences(sql: object, memory: object) -> Iterator[str]:
    """Where two values differ, part by part."""
    if isinstance(sql, list | tuple) and isinstance(memory, list | tuple) and len(sql) == len(memory):
        for mine, other in zip(sql, memory, strict=True):
            if mine != other:
                yield from _differences(mine, other)
        return
    yield f"sql:    {sql}"
    yield f"memory: {memory}"


class SimulatedClock:
    """Stands until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def sqlite_on(directory: Path, clock: Clock) -> Iterator[SqliteDatabase]:
    """A database with its tables."""
    url = f"sqlite:///{directory / 'admin.db'}"
    schema.upgrade(url)
    database = SqliteDatabase(url, clock)
    try:
        yield database
    finally:
        database.close()


async def wipe(database: SqliteDatabase) -> None:
    """No row is left in any table."""

    def work(connection: Any) -> None:
        for table in metadata.tables.values():
            connection.execute(table.delete())

    await database.write(work)
