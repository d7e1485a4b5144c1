"""One suite over every implementation of the admin's store of runs: runs that wait for others, and fixed delays."""

from datetime import timedelta
from itertools import count

import pytest

from admin.domain.run import OutcomeState, RunState
from admin.domain.shard import Fault, ShardState
from tests.support.admin_factories import order, run_id
from tests.support.admin_stores import PUSH, Stores, utc_now

pytestmark = pytest.mark.anyio

AT_ONCE = timedelta(0)
FAULT = Fault("ValueError", "no", "Traceback")


async def test_queued_runs_start_one_by_one_in_their_order(stores: Stores):
    await stores.job(overlap="queue", overlap_limit=2)
    runs = [await stores.add(order(number)) for number in (1, 2, 3, 4)]
    assert [run.is_queued for run in runs] == [False, True, True, False]
    assert runs[3].state is RunState.SKIPPED
    for number in (1, 2, 3):
        (assignment,) = await stores.assign()
        assert assignment.run.id == run_id(number)
        assert (await stores.runs.claim_queued(9)).started == [], "one is under way"
        await stores.report(assignment.shard.current)
        assert await stores.assign() == [], "it is not its turn yet"
        started = (await stores.runs.claim_queued(9)).started
        assert [run.id for run in started] == [run_id(number + 1)][: 3 - number]
    assert [run.state for run in await _all(stores)] == [RunState.SKIPPED, *[RunState.SUCCEEDED] * 3]


async def test_a_queued_run_has_shards_that_wait_and_can_be_cancelled(stores: Stores):
    await stores.job(overlap="queue", shards=2)
    await stores.add(order(1))
    queued = await stores.add(order(2))
    assert await stores.runs.get(queued.id) == queued
    assert [shard.state for shard in await stores.runs.list_shards(queued.id)] == [ShardState.WAITING] * 2
    ended, held = await stores.cancel(queued)
    assert (ended.state, list(held)) == (RunState.CANCELLED, [])
    assert [shard.state for shard in await stores.runs.list_shards(queued.id)] == [ShardState.CANCELLED] * 2
    assert await stores.runs.get(queued.id) == ended


async def test_shards_of_a_queued_run_are_due_with_it_and_take_no_changes(stores: Stores):
    await stores.job(overlap="queue")
    await stores.add(order(1))
    queued = await stores.add(order(2))
    (shard,) = await stores.runs.list_shards(queued.id)
    assert shard.due_at == queued.fire_at
    assert list((await stores.report(shard.current)).before) == [None]


async def test_the_last_of_several_that_replace_starts_when_the_old_run_has_ended(stores: Stores):
    await stores.job(overlap="replace")
    first = await stores.add(order(1))
    (assignment,) = await stores.assign()
    second, third = await stores.add(order(2)), await stores.add(order(3))
    turned = await stores.runs.claim_queued(9)
    assert [run.id for run in turned.stop] == [first.id]
    assert ([run.id for run in turned.ended], turned.started) == ([second.id], [])
    assert (await stores.runs.get(second.id)).state is RunState.SKIPPED
    await stores.cancel(first)
    assert (await stores.runs.claim_queued(9)).started == [], "its shard is still held"
    await stores.report(assignment.shard.current, OutcomeState.CANCELLED)
    assert [run.id for run in (await stores.runs.claim_queued(9)).started] == [third.id]
    assert [each.run.id for each in await stores.assign()] == [third.id]


async def test_with_a_fixed_delay_the_end_of_a_fires_run_leads_to_the_next_fire(stores: Stores):
    now = utc_now().replace(microsecond=0)
    await stores.job(now, trigger={"after": "10m"}, overlap="allow")
    await stores.plan(count(1))
    assert (await stores.jobs.get(PUSH)).next_fire_at is None
    (assignment,) = await stores.assign()
    manual = await stores.add(order(7))
    await stores.cancel(manual)
    assert (await stores.jobs.get(PUSH)).next_fire_at is None, "a manual run moves nothing"
    await stores.report(assignment.shard.current, OutcomeState.FAILED, fault=FAULT)
    ended = await stores.runs.get(run_id(1))
    job = await stores.jobs.get(PUSH)
    assert job.next_fire_at == ended.ended_at + timedelta(minutes=10)
    await stores.runs.add_attempts(run_id(1))
    (assignment,) = await stores.assign()
    await stores.report(assignment.shard.current)
    assert (await stores.jobs.get(PUSH)).next_fire_at == job.next_fire_at, "what is planned already stays"


async def test_with_a_fixed_delay_the_same_fire_time_may_come_again_and_older_runs_lead_to_nothing(stores: Stores):
    now = utc_now().replace(microsecond=0)
    numbers = count(1)
    await stores.job(now, trigger={"after": "10m"}, overlap="allow")
    await stores.plan(numbers)
    (older,) = await stores.assign()
    await stores.report(older.shard.current, OutcomeState.FAILED, fault=FAULT)
    await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(next_fire_at=now), None)
    (again,) = (await stores.plan(numbers)).runs
    assert (again.id, again.fire_at) == (run_id(2), now), "as behind a clock that was set back"
    await stores.jobs.add_version(PUSH, lambda job, at, _: job._replace(next_fire_at=at), None)
    (last,) = (await stores.plan(numbers)).runs
    await stores.cancel(again)
    assert (await stores.jobs.get(PUSH)).next_fire_at is None, "not the last one"
    ended, _ = await stores.cancel(last)
    assert (await stores.jobs.get(PUSH)).next_fire_at == ended.ended_at + timedelta(minutes=10)


async def test_with_a_fixed_delay_a_skipped_fire_leads_on_as_well(stores: Stores):
    await stores.job(utc_now().replace(microsecond=0), trigger={"after": "10m"})
    await stores.add(order(7))
    due = await stores.plan(count(1))
    assert [run.state for run in due.runs] == [RunState.SKIPPED]
    assert (await stores.jobs.get(PUSH)).next_fire_at == due.runs[0].ended_at + timedelta(minutes=10)


async def _all(stores: Stores):
    return await stores.runs.list(job=PUSH, state=None, before=None, limit=99)
