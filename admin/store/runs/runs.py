"""Runs in SQL."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection, bindparam, func, select, update

from admin.domain.errors import NothingToRetry, RunEnded, UnknownRun
from admin.domain.names import Attempt, ExecutorId, JobName, RunId
from admin.domain.overlap import Active
from admin.domain.routing import Assignment
from admin.domain.run import Cause, Run, RunState, ended_unbegun, settled
from admin.domain.shard import HELD, Counters, Reopened, Shard, ShardState, step
from admin.ports import Change, Changed, Decide, Due, Make, Plan, Takers, Turned
from admin.store.databases import many
from admin.store.databases.database import Database
from admin.store.jobs import active_of, lock_job
from admin.store.runs import assigning, due, history, reading
from admin.store.runs.books import Books, Found
from admin.store.runs.definitions import Definitions
from admin.store.runs.history import EndedRun
from admin.store.runs.rows import RUN_STATES, counter_values
from admin.store.tables import run_pins, runs, shards
from admin.store.types import uuid_bytes

T = TypeVar("T")

SURPLUS_SECONDS = 600  # how old the last look for runs that are too many may be

_FAILED = frozenset({ShardState.FAILED, ShardState.LOST})


class SqlRuns:
    """Implements RunStore."""

    def __init__(self, database: Database, definitions: Definitions, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._definitions = definitions
        self._monotonic = monotonic
        self._looked: tuple[int, float] | None = None
        self._last = b""

    async def add(self, job: JobName, cause: Cause, key: str, make: Make) -> Run:
        def work(books: Books) -> Run:
            current = lock_job(books.connection, self._definitions, job)
            if (known := reading.with_key(books, current.id, cause, key)) is not None:
                return known
            active = active_of(books.connection, [current.id]).get(current.id, Active())
            run = make(current, books.now, active)
            books.add([run], books.fresh([run]))
            return run

        return await self._write(work)

    async def claim_due(self, limit: int, plan: Plan, takers: Takers | None) -> Due:
        return await self._write(lambda books: due.claim_due(books, limit, plan, takers))

    async def claim_queued(self, limit: int) -> Turned:
        return await self._write(lambda books: due.claim_queued(books, limit))

    async def claim_waiting(self, takers: Takers) -> Sequence[Assignment]:
        return await self._write(lambda books: assigning.claim_waiting(books, takers))

    async def claim_lapsed(self, limit: int, decide: Decide) -> Changed:
        return await self._write(lambda books: assigning.claim_lapsed(books, limit, decide))

    async def finish(self, changes: Sequence[Change]) -> Changed:
        return await self._write(lambda books: books.change(changes))

    async def extend(self, lease: timedelta) -> int:
        return await self._write(lambda books: assigning.extend(books, lease))

    async def cancel(self, run_id: RunId, decide: Decide, reason: str) -> tuple[Run, Sequence[Shard]]:
        def work(books: Books) -> tuple[Run, Sequence[Shard]]:
            run = books.load_runs([run_id]).get(run_id)
            if run is None:
                raise RunEnded(run_id=run_id, state=reading.load(books, run_id)[0].state)
            run = run._replace(cancelled_at=run.cancelled_at or books.now, reason=reason)
            if run.is_queued:
                run = ended_unbegun(run, RunState.CANCELLED, reason, books.now)
                books.end([run], {})
                return run, []
            books.keep_runs([run])
            found = books.load_all(run)
            changed = books.change([Change(key, decide) for key in found.shards])
            held = [shard for shard in found.shards.values() if shard.state in HELD]
            return next((after for after in changed.runs if after.id == run_id), run), held

        return await self._write(work)

    async def add_attempts(self, run_id: RunId) -> Run:
        def work(books: Books) -> Run:
            if (active := books.load_runs([run_id]).get(run_id)) is not None:
                return _reopen(books, active, list(books.load_all(active).shards.values()), None)
            ended = history.load(books.connection, self._definitions, [run_id]).get(run_id)
            if ended is None:
                raise UnknownRun(run_id=run_id)
            return _reopen(books, ended.run, ended.shards, ended)

        return await self._write(work)

    async def add_progress(self, holder: ExecutorId, progress: Mapping[Attempt, Counters]) -> None:
        where = (shards.c.run_id == bindparam("b_run")) & (shards.c.shard_index == bindparam("b_index"))
        where &= (shards.c.term == bindparam("b_term")) & (shards.c.holder == holder)
        where &= shards.c.leased_until_ms.is_not(None)
        values = [
            {
                **counter_values(counters),
                "b_run": uuid_bytes(attempt.run_id),
                "b_index": attempt.index,
                "b_term": attempt.term,
            }
            for attempt, counters in sorted(progress.items())
        ]
        if values:
            await self._database.write(lambda connection: connection.execute(update(shards).where(where), values))

    async def add_pin(self, attempt: Attempt, holder: ExecutorId, name: str, value: str) -> str | None:
        def work(books: Books) -> str | None:
            shard = books.load_shard(attempt.shard)
            if shard is None or shard.state not in HELD or shard.current != attempt or shard.holder != holder:
                return None
            pins = books.load_pins([attempt.run_id]).get(attempt.run_id, {})
            if name not in pins:
                row = {"run_id": uuid_bytes(attempt.run_id), "name": name, "value": value}
                many.insert(books.connection, run_pins, [row])
                many.update(books.connection, runs, ("id",), [{"id": row["run_id"], "is_pinned": True}])
            return pins.get(name, value)

        return await self._write(work)

    async def get(self, run_id: RunId) -> Run:
        return await self._read(lambda books: reading.load(books, run_id)[0])

    async def list(
        self, *, job: JobName | None, state: RunState | None, before: RunId | None, limit: int
    ) -> Sequence[Run]:
        return await self._read(lambda books: reading.list_runs(books, job, state, before, limit))

    async def list_shards(self, run_id: RunId) -> Sequence[Shard]:
        return await self._read(lambda books: reading.load(books, run_id)[1])

    async def get_tally(self) -> Mapping[RunState, int]:
        query = select(runs.c.state, func.count()).group_by(runs.c.state)
        found = await self._read(lambda books: books.connection.execute(query).all())
        return {RUN_STATES[state]: count for state, count in found}

    async def prune(self, keep: timedelta, most: int, limit: int) -> Sequence[RunId]:
        """Looked for beside those who write: that takes the longer the more there are."""
        surplus = await self._surplus(most)
        old = await self._read(lambda books: history.find_old(books.connection, books.now - keep, surplus, limit))
        return await self._write(lambda books: history.prune(books.connection, old)) if old.keys else []

    async def _surplus(self, most: int) -> bytes:
        """Looked for now and then only: that takes a walk through an index."""
        look = (most, self._monotonic() // SURPLUS_SECONDS)
        if look != self._looked:
            self._looked, self._last = look, await self._read(lambda it: history.find_surplus(it.connection, most))
        return self._last

    async def _write(self, work: Callable[[Books], T]) -> T:
        return await self._database.write(lambda connection: work(self._books(connection)))

    async def _read(self, work: Callable[[Books], T]) -> T:
        return await self._database.read(lambda connection: work(self._books(connection)))

    def _books(self, connection: Connection) -> Books:
        return Books(connection, self._definitions, self._database.now(connection))


def _reopen(books: Books, run: Run, its_shards: Sequence[Shard], ended: EndedRun | None) -> Run:
    """The failed and lost shards go on behind their cursors. Raises NothingToRetry."""
    failed = {shard.key: shard for shard in its_shards if shard.state in _FAILED}
    if not failed or (ended is None and run.is_cancelling):
        raise NothingToRetry(run_id=run.id)
    opened = {key: step(shard, Reopened(books.now)) for key, shard in failed.items()}
    tally = Counter(opened.get(shard.key, shard).state for shard in its_shards)
    run = settled(run._replace(cancelled_at=None, reason=""), tally, books.now)
    if ended is None:
        books.keep_runs([run])
        books.keep(Found(failed, {run.id: run}, set()), opened)
    else:
        books.reopen(ended, run, [opened.get(shard.key, shard) for shard in its_shards])
    return run
