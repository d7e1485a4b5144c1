"""One suite over every store of runs: the bounds of what a database keeps, and what must not happen twice."""

import secrets
from datetime import datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import update

from admin.dispatch.convert import MAX_RESULT
from admin.domain.errors import NothingToRetry, UnknownJob, UnknownRun
from admin.domain.job import MAX_SHARDS, Job
from admin.domain.names import Group, JobName, RunId
from admin.domain.plan import fire_of_edited
from admin.domain.run import MAX_LEAP, Outcome, OutcomeState, RunState, on_beat, on_lapse, on_outcome
from admin.domain.shard import Fault, ShardState
from admin.ports import Change
from admin.store.runs import due, history
from admin.store.runs.history import EndedRun
from admin.store.runs.rows import ms_of
from admin.store.tables import ended_runs
from admin.store.types import uuid_bytes
from tests.support.admin_factories import ONE, definition, order, run_id
from tests.support.admin_stores import COUNTERS, LONG, PUSH, Stores, utc_now

pytestmark = pytest.mark.anyio

AT_ONCE = timedelta(0)
FAULT = Fault("ValueError", "no", "Traceback")


@pytest.mark.parametrize("term", [2**31, 2**62, 2**63 - 1])
async def test_a_made_up_term_of_the_broker_costs_neither_its_job_nor_others(stores: Stores, term: int):
    await stores.job()
    run = await stores.add(order())
    (assignment,) = await stores.assign()
    await stores.report(assignment.shard.current, OutcomeState.FENCED, broker_term=term)
    (again,) = await stores.assign()
    assert assignment.shard.term + MAX_LEAP <= again.shard.term < 2**31
    await stores.report(again.shard.current, OutcomeState.FENCED, broker_term=term)
    await stores.job(name="other")
    await stores.add(order(2), job=JobName("other"))
    found = await stores.assign()
    assert [each.run.job for each in found] == ["push", "other"]
    for each in found:
        await stores.report(each.shard.current)
    assert (await stores.runs.get(run.id)).state is RunState.SUCCEEDED


async def test_names_that_nothing_can_have_are_unknown_and_no_fault_of_the_database(stores: Stores):
    job = await stores.job()
    await stores.add(order())
    for odd in ("\x00", "push\x00", "\x7f"):
        with pytest.raises(UnknownJob):
            await stores.jobs.get(JobName(odd))
        with pytest.raises(UnknownJob):
            await stores.jobs.cancel(JobName(odd), None)
        with pytest.raises(UnknownRun):
            await stores.runs.get(RunId(odd))
        assert list(await stores.jobs.list(group=Group(odd), after=None, limit=9)) == []
        assert list(await stores.runs.list(job=JobName(odd), state=None, before=None, limit=9)) == []
    for after, found in (("\x00", [job]), ("pusg\x00", [job]), ("push\x00", []), ("pusi\x00", [])):
        assert list(await stores.jobs.list(group=None, after=JobName(after), limit=9)) == found


async def test_a_change_that_does_nothing_is_told_as_such(stores: Stores):
    await stores.job(shards=2)
    await stores.add(order())
    first, second = await stores.assign(AT_ONCE)
    changed = await stores.runs.claim_lapsed(
        9, lambda shard, run, now: on_lapse(shard, run, now) if shard.index else None
    )
    assert sorted(zip([found[0].index for found in changed.before], changed.steps, strict=True)) == [
        (0, False),
        (1, True),
    ]
    late = [first.shard.current, second.shard.current, first.shard.current._replace(index=9)]
    changes = [
        Change(attempt.shard, lambda shard, _, now, at=attempt: on_beat(shard, ONE, at, LONG, now)) for attempt in late
    ]
    assert list((await stores.runs.finish(changes)).steps) == [True, False, False]


async def test_a_run_with_more_results_than_a_row_takes_is_kept_without_them(stores: Stores, request, monkeypatch):
    total = MAX_SHARDS
    if request.node.callspec.params["stores"] not in ("mariadb", "mysql"):  # whose bound it is
        total = 64
        monkeypatch.setattr(history, "MOST_BYTES", 1 << 20)
    await stores.job(shards=total)
    run = await stores.add(order())
    assignments = [*await stores.assign(), *await stores.assign()]
    assert len(assignments) == total
    changes = []
    for assignment in assignments:
        attempt, result = assignment.shard.current, secrets.token_hex(MAX_RESULT // 2)
        said = Outcome(attempt, OutcomeState.SUCCEEDED, COUNTERS, result=result)
        if attempt.index == 7:
            fault = Fault("ValueError", "no" * history.MOST_FAULT, "Traceback" * 1_000)
            said = Outcome(attempt, OutcomeState.FAILED, COUNTERS, fault=fault)
        changes.append(Change(attempt.shard, lambda shard, run, now, said=said: on_outcome(shard, said, run, now)))
    (ended,) = (await stores.runs.finish(changes)).runs
    assert await stores.runs.get(run.id) == ended
    kept = await stores.runs.list_shards(run.id)
    failed = kept.pop(7)
    assert [shard.state for shard in kept] == [ShardState.SUCCEEDED] * (total - 1)
    assert (failed.state, failed.fault.code, failed.counters) == (ShardState.FAILED, "ValueError", COUNTERS)
    if stores.database is not None:
        assert ({shard.result for shard in kept}, len(failed.fault.message)) == ({""}, history.MOST_FAULT)
    again = await stores.runs.add_attempts(run.id)
    assert again.state is RunState.RUNNING


async def test_a_fixed_delay_whose_run_is_under_way_waits_for_its_end_through_pauses_and_edits(stores: Stores):
    await stores.job(utc_now().replace(microsecond=0), trigger={"after": "10m"})
    await stores.plan(count(1))
    (assignment,) = await stores.assign()
    for pause in (True, False):
        assert (await _edited(stores, is_paused=pause)).next_fire_at is None
    edited = definition(trigger={"after": "20m"}, params={"a": 1})
    assert (await _edited(stores, definition=edited)).next_fire_at is None
    await stores.report(assignment.shard.current)
    ended = await stores.runs.get(run_id(1))
    assert (await stores.jobs.get(PUSH)).next_fire_at == ended.ended_at + timedelta(minutes=20)


async def test_a_run_of_another_trigger_leaves_a_fixed_delay_its_beginning(stores: Stores):
    await stores.job(utc_now().replace(microsecond=0), trigger={"every": "1h"})
    await stores.plan(count(1))
    (assignment,) = await stores.assign()
    for _ in range(2):
        edited = await _edited(stores, definition=definition(trigger={"after": "10m"}))
        assert edited.next_fire_at is not None
    await stores.report(assignment.shard.current)
    assert (await stores.jobs.get(PUSH)).next_fire_at == edited.next_fire_at


async def test_an_older_run_that_is_retried_leads_to_no_fire_beside_a_newer_one(stores: Stores):
    numbers = count(1)
    await stores.job(utc_now().replace(microsecond=0), trigger={"after": "1s"}, overlap="allow")
    await stores.plan(numbers)
    (older,) = await stores.assign()
    await stores.report(older.shard.current, OutcomeState.FAILED, fault=FAULT)
    await stores.jobs.add_version(PUSH, lambda job, now, _: job._replace(next_fire_at=now), None)
    assert len((await stores.plan(numbers)).runs) == 1
    (newer,) = await stores.assign()
    await stores.runs.add_attempts(older.run.id)
    (again,) = await stores.assign()
    await stores.report(again.shard.current)
    assert (await stores.jobs.get(PUSH)).next_fire_at is None
    await stores.report(newer.shard.current)
    assert (await stores.jobs.get(PUSH)).next_fire_at is not None


async def test_a_run_that_is_being_cancelled_is_not_retried(stores: Stores):
    await stores.job(shards=2)
    run = await stores.add(order())
    first, second = await stores.assign()
    await stores.report(first.shard.current, OutcomeState.FAILED, fault=FAULT)
    stopping, _ = await stores.cancel(run)
    with pytest.raises(NothingToRetry):
        await stores.runs.add_attempts(run.id)
    assert await stores.runs.get(run.id) == stopping
    assert stopping.cancelled_at is not None
    await stores.report(second.shard.current, OutcomeState.CANCELLED)
    assert (await stores.runs.add_attempts(run.id)).cancelled_at is None, "when it has ended it may be"


async def test_a_run_that_ends_while_runs_are_listed_is_listed_once_as_it_ended(stores: Stores):
    if stores.database is None:
        pytest.skip("one table")
    await stores.job(overlap="allow")
    runs = [await stores.add(order(number)) for number in (1, 2, 3)]
    ended = runs[1]._replace(state=RunState.SUCCEEDED, ended_at=utc_now().replace(microsecond=0))
    await stores.database.write(lambda connection: history.add(connection, [EndedRun(ended, (), {})]))
    for limit in (2, 9):
        listed = await stores.runs.list(job=PUSH, state=None, before=None, limit=limit)
        assert list(listed) == [runs[2], ended, runs[0]][:limit]


async def test_what_is_due_beyond_so_many_shards_follows_in_the_next_round(stores: Stores, monkeypatch):
    if stores.database is None:
        pytest.skip("no transaction that could be too long")
    monkeypatch.setattr(due, "SHARDS_A_ROUND", 4)
    now, numbers = utc_now().replace(microsecond=0), count(1)
    for name in ("first", "second", "third"):
        await stores.job(now - LONG, name=name, shards=3, trigger={"every": "1h"})
    rounds = [await stores.plan(numbers) for _ in range(3)]
    assert [each.jobs for each in rounds] == [2, 1, 0]
    assert [len(each.runs) >= each.jobs for each in rounds] == [True] * 3
    assert rounds[0].wait == timedelta(), "the rest is due already"
    assert {run.job for each in rounds for run in each.runs} == {"first", "second", "third"}


async def test_a_run_that_took_long_is_forgotten_by_its_end_and_not_by_its_beginning(stores: Stores):
    if stores.database is None:
        pytest.skip("no way to set when a run ended")
    await stores.job()
    begun, lately = run_id(1), RunId(f"{ms_of(utc_now()):012x}".join(["", "7" + "0" * 19]))
    await stores.add(order(9))
    for each in (begun, lately):
        await stores.add(order()._replace(id=each, key=each))
    assert list(await stores.runs.prune(LONG, 100, 9)) == []
    long_ago = {"ended_ms": ms_of(utc_now() - LONG - LONG)}
    where = ended_runs.c.id == uuid_bytes(begun)
    await stores.database.write(lambda connection: connection.execute(update(ended_runs).where(where).values(long_ago)))
    assert list(await stores.runs.prune(LONG, 100, 9)) == [begun]


async def _edited(stores: Stores, **fields: object) -> Job:
    """As an operation edits."""

    def edit(job: Job, now: datetime, awaits_end: bool) -> Job:
        new = job._replace(**fields)
        return new._replace(next_fire_at=fire_of_edited(job, new, now, awaits_end=awaits_end))

    return await stores.jobs.add_version(PUSH, edit, None)
