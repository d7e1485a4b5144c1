"""Runs in SQL."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Select, bindparam, func, insert, or_, select, tuple_, update

from admin.domain.errors import NothingToRetry, RunEnded, UnknownRun
from admin.domain.names import Attempt, ExecutorId, Group, HandlerName, JobName, RunId, ShardKey
from admin.domain.plan import shards_of
from admin.domain.routing import Assignment, Waiting
from admin.domain.run import ACTIVE, Cause, Run, RunState
from admin.domain.shard import HELD, Assigned, Counters, Reopened, Shard, ShardState, step
from admin.ports import Change, Changed, Choose, Decide, Due, Make, Offer, Plan
from admin.store import rows
from admin.store.database import Database
from admin.store.jobs import has_active_runs, load_job
from admin.store.shards import add_runs, change, chunks, keep_runs, keep_shards, load_runs, load_shards, settle
from admin.store.tables import jobs, run_pins, runs, shards

_HELD = [str(state) for state in HELD]


class SqlRuns:
    """Implements RunStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, job: JobName, cause: Cause, key: str, make: Make, now: datetime) -> Run:
        def work(connection: Connection) -> Run:
            if (known := _run_with_key(connection, job, cause, key)) is not None:
                return known
            run = make(load_job(connection, job), has_active_runs(connection, job))
            add_runs(connection, [(run, shards_of(run, now))])
            return run

        return await self._database.write(work)

    async def claim_due(self, now: datetime, limit: int, plan: Plan) -> Due:
        return await self._database.write(lambda connection: _claim_due(connection, now, limit, plan))

    async def claim_waiting(
        self, now: datetime, leased_until_at: datetime, offers: Mapping[Group, Offer], choose: Choose
    ) -> Sequence[Assignment]:
        return await self._database.write(
            lambda connection: _claim_waiting(connection, now, leased_until_at, offers, choose)
        )

    async def claim_lapsed(self, now: datetime, limit: int, decide: Decide) -> Changed:
        query = select(shards.c.run_id, shards.c.shard_index).limit(limit)
        query = query.where(shards.c.state.in_(_HELD), shards.c.leased_until_ms <= rows.ms_of(now))

        def work(connection: Connection) -> Changed:
            keys = [ShardKey(RunId(run_id), index) for run_id, index in connection.execute(query)]
            return change(connection, [Change(key, decide) for key in keys], now)

        return await self._database.write(work)

    async def finish(self, changes: Sequence[Change], now: datetime) -> Changed:
        return await self._database.write(lambda connection: change(connection, changes, now))

    async def extend(self, until_at: datetime) -> int:
        values = update(shards).where(shards.c.state.in_(_HELD)).values(leased_until_ms=rows.ms_of(until_at))
        return await self._database.write(lambda connection: connection.execute(values).rowcount)

    async def cancel(self, run_id: RunId, decide: Decide, now: datetime) -> tuple[Run, Sequence[Shard]]:
        def work(connection: Connection) -> tuple[Run, Sequence[Shard]]:
            run = _load_run(connection, run_id)
            if run.state not in ACTIVE:
                raise RunEnded(run_id=run_id, state=run.state)
            run = replace(run, cancelled_at=run.cancelled_at or now, reason="cancelled on request")
            keep_runs(connection, [run])
            its_shards = _list_shards(connection, run_id)
            change(connection, [Change(shard.key, decide) for shard in its_shards], now)
            return _load_run(connection, run_id), [shard for shard in its_shards if shard.state in HELD]

        return await self._database.write(work)

    async def add_attempts(self, run_id: RunId, now: datetime) -> Run:
        def work(connection: Connection) -> Run:
            run = replace(_load_run(connection, run_id), cancelled_at=None, reason="")
            failed = [
                shard
                for shard in _list_shards(connection, run_id)
                if shard.state in (ShardState.FAILED, ShardState.LOST)
            ]
            if not failed:
                raise NothingToRetry(run_id=run_id)
            keep_shards(connection, [step(shard, Reopened(now)) for shard in failed])
            keep_runs(connection, [run])
            settle(connection, [run], now)
            return _load_run(connection, run_id)

        return await self._database.write(work)

    async def add_progress(self, holder: ExecutorId, progress: Mapping[Attempt, Counters]) -> None:
        where = (shards.c.run_id == bindparam("b_run")) & (shards.c.shard_index == bindparam("b_index"))
        where &= (shards.c.term == bindparam("b_term")) & (shards.c.holder == holder)
        where &= or_(*(shards.c.state == state for state in _HELD))
        values = [
            {**rows.counter_values(counters), "b_run": attempt.run_id, "b_index": attempt.index, "b_term": attempt.term}
            for attempt, counters in progress.items()
        ]
        if values:
            await self._database.write(lambda connection: connection.execute(update(shards).where(where), values))

    async def add_pin(self, attempt: Attempt, holder: ExecutorId, name: str, value: str) -> str | None:
        kept = select(run_pins.c.value).where(run_pins.c.run_id == attempt.run_id, run_pins.c.name == name)

        def work(connection: Connection) -> str | None:
            shard = load_shards(connection, {attempt.shard}).get(attempt.shard)
            if shard is None or shard.state not in HELD or shard.current != attempt or shard.holder != holder:
                return None
            if (known := connection.scalar(kept)) is not None:
                return str(known)
            connection.execute(insert(run_pins).values(run_id=attempt.run_id, name=name, value=value))
            return value

        return await self._database.write(work)

    async def get(self, run_id: RunId) -> Run:
        return await self._database.read(lambda connection: _load_run(connection, run_id))

    async def list(
        self, *, job: JobName | None, state: RunState | None, before: RunId | None, limit: int
    ) -> Sequence[Run]:
        query = select(runs).order_by(runs.c.id.desc()).limit(limit)
        if job is not None:
            query = query.where(runs.c.job == job)
        if state is not None:
            query = query.where(runs.c.state == str(state))
        if before is not None:
            query = query.where(runs.c.id < before)
        return await self._database.read(lambda connection: [rows.run_of(row) for row in connection.execute(query)])

    async def list_shards(self, run_id: RunId) -> Sequence[Shard]:
        def work(connection: Connection) -> Sequence[Shard]:
            _load_run(connection, run_id)
            return _list_shards(connection, run_id)

        return await self._database.read(work)

    async def get_tally(self) -> Mapping[RunState, int]:
        query = select(runs.c.state, func.count()).group_by(runs.c.state)
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return {RunState(state): count for state, count in found}


def _claim_due(connection: Connection, now: datetime, limit: int, plan: Plan) -> Due:
    is_due = (jobs.c.next_fire_ms <= rows.ms_of(now)) & ~jobs.c.is_paused
    query = select(jobs).where(is_due).order_by(jobs.c.next_fire_ms).limit(limit).with_for_update()
    due = [rows.job_of(row) for row in connection.execute(query)]
    active = _active(connection, [job.name for job in due])
    planned = {job.name: plan(job, job.name in active) for job in due}
    wanted = [run for each in planned.values() for run in each.runs]
    known = _known(connection, wanted)
    new = [run for run in wanted if (run.job, run.key) not in known]
    add_runs(connection, [(run, shards_of(run, now)) for run in new])
    moved = [{"b_name": name, "b_next": rows.ms_of(each.next_fire_at)} for name, each in planned.items()]
    if moved:
        move = update(jobs).where(jobs.c.name == bindparam("b_name")).values(next_fire_ms=bindparam("b_next"))
        connection.execute(move, moved)
    next_ms = connection.scalar(select(func.min(jobs.c.next_fire_ms)).where(~jobs.c.is_paused))
    return Due(len(due), new, rows.instant_of(next_ms))


def _active(connection: Connection, names: Sequence[JobName]) -> set[str]:
    """Those of the jobs that have active runs."""
    is_active = runs.c.state.in_([str(state) for state in ACTIVE])
    return set(connection.scalars(select(runs.c.job).where(runs.c.job.in_(names), is_active).distinct()))


def _known(connection: Connection, wanted: Sequence[Run]) -> set[tuple[str, str]]:
    """(job, key) of those fires that have a run already."""
    found: set[tuple[str, str]] = set()
    for chunk in chunks([(run.job, str(run.cause), run.key) for run in wanted]):
        is_wanted = tuple_(runs.c.job, runs.c.cause, runs.c.run_key).in_(chunk)
        found.update((row.job, row.run_key) for row in connection.execute(select(runs).where(is_wanted)))
    return found


def _claim_waiting(
    connection: Connection,
    now: datetime,
    leased_until_at: datetime,
    offers: Mapping[Group, Offer],
    choose: Choose,
) -> list[Assignment]:
    waiting = [
        Waiting(ShardKey(RunId(row.run_id), row.shard_index), group, HandlerName(row.handler))
        for group, offer in offers.items()
        for row in connection.execute(_waiting_query(group, offer, now))
    ]
    choices = choose(waiting) if waiting else []
    held = load_shards(connection, {choice.key for choice in choices})
    leased = [
        step(held[choice.key], Assigned(now, choice.executor_id, choice.name, leased_until_at)) for choice in choices
    ]
    keep_shards(connection, leased)
    owners = load_runs(connection, {shard.run_id for shard in leased})
    settle(connection, list(owners.values()), now)
    pins = _load_pins(connection, list(owners))
    return [Assignment(shard, owners[shard.run_id], pins[shard.run_id]) for shard in leased]


def _waiting_query(group: Group, offer: Offer, now: datetime) -> Select[str, int, str]:
    return (
        select(shards.c.run_id, shards.c.shard_index, shards.c.handler)
        .where(shards.c.state == str(ShardState.WAITING), shards.c.group_name == group)
        .where(shards.c.due_ms <= rows.ms_of(now), shards.c.handler.in_(offer.handlers))
        .order_by(shards.c.due_ms, shards.c.run_id, shards.c.shard_index)
        .limit(offer.slots)
        .with_for_update(skip_locked=True)
    )


def _load_pins(connection: Connection, run_ids: Sequence[RunId]) -> Mapping[RunId, Mapping[str, str]]:
    pins: dict[RunId, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(select(run_pins).where(run_pins.c.run_id.in_(run_ids))):
        pins[RunId(row.run_id)][row.name] = row.value
    return pins


def _load_run(connection: Connection, run_id: RunId) -> Run:
    row = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
    if row is None:
        raise UnknownRun(run_id=run_id)
    return rows.run_of(row)


def _run_with_key(connection: Connection, job: JobName, cause: Cause, key: str) -> Run | None:
    query = select(runs).where(runs.c.job == job, runs.c.cause == str(cause), runs.c.run_key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else rows.run_of(row)


def _list_shards(connection: Connection, run_id: RunId) -> list[Shard]:
    query = select(shards).where(shards.c.run_id == run_id).order_by(shards.c.shard_index)
    return [rows.shard_of(row) for row in connection.execute(query)]
