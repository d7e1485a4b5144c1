"""One suite over every implementation of the admin's store of runs."""

from datetime import timedelta
from itertools import count

import pytest
import uuid_utils

from admin.domain.errors import NothingToRetry, RunEnded
from admin.domain.names import ExecutorId, Group, JobName, RunId
from admin.domain.plan import plan
from admin.domain.run import Cause, Outcome, OutcomeState, RunState, on_beat, on_lapse, on_outcome, on_refusal
from admin.domain.shard import Counters, Fault, ShardState
from admin.ports import Change, Offer
from tests.support.admin_factories import ONE, definition, order, run_id
from tests.support.admin_stores import COUNTERS, LONG, OFFERS, PUSH, Stores, takers, utc_now

pytestmark = pytest.mark.anyio

AT_ONCE = timedelta(0)
FAULT = Fault("ValueError", "no", "Traceback")


async def test_a_run_is_one_by_job_cause_and_key(stores: Stores):
    await stores.job(overlap="allow")
    first = await stores.add(order(1, key="k"))
    assert await stores.add(order(2, key="k")) == first
    other = await stores.add(order(3, key="k", cause=Cause.RERUN))
    assert other.id != first.id
    listed = await stores.runs.list(job=PUSH, state=None, before=None, limit=9)
    assert [run.id for run in listed] == [other.id, first.id]


async def test_a_key_is_still_known_when_its_run_has_ended(stores: Stores):
    await stores.job()
    first = await stores.add(order(1, key="k"))
    (assignment,) = await stores.assign()
    await stores.report(assignment.shard.current)
    again = await stores.add(order(2, key="k"))
    assert (again.id, again.state) == (first.id, RunState.SUCCEEDED)


async def test_a_run_keeps_its_copy_of_the_job(stores: Stores):
    fields = {"params": {"a": 1}, "retry": {"attempts": 3, "initial": "1s"}, "timeout": "5m", "shards": 3}
    await stores.job(**fields)
    run = await stores.add(order())
    edited = definition(handler="other")
    await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(definition=edited), None)
    assert await stores.runs.get(run.id) == run
    assert (run.handler, run.params, run.retry.attempts, run.timeout) == ("push", '{"a":1}', 3, timedelta(minutes=5))
    assert [shard.index for shard in await stores.runs.list_shards(run.id)] == [0, 1, 2]


async def test_a_run_keeps_params_of_its_own(stores: Stores):
    await stores.job(params={"a": 1})
    run = await stores.add(order()._replace(params='{"a":2,"text":"übung 推送"}'))
    assert (await stores.runs.get(run.id)).params == '{"a":2,"text":"übung 推送"}'
    await stores.cancel(run)
    assert (await stores.runs.get(run.id)).params == '{"a":2,"text":"übung 推送"}'


async def test_shards_for_executors_are_as_many_as_are_alive_and_at_least_one(stores: Stores):
    await stores.job(shards="executors", overlap="allow")
    assert (await stores.add(order(1), {Group("promotion"): 3})).total == 3
    assert (await stores.add(order(2), {Group("other"): 3})).total == 1


async def test_a_run_beside_an_active_one_is_written_down_as_skipped(stores: Stores):
    await stores.job(shards=2)
    first = await stores.add(order(1))
    second = await stores.add(order(2))
    assert (second.state, second.ended_at is None) == (RunState.SKIPPED, False)
    assert await stores.runs.get(second.id) == second
    assert [shard.state for shard in await stores.runs.list_shards(second.id)] == [ShardState.SKIPPED] * 2
    assert {assignment.run.id for assignment in await stores.assign()} == {first.id}


async def test_due_jobs_become_runs_and_move_on_in_one_step(stores: Stores):
    now = utc_now().replace(microsecond=0)
    await stores.job(now, trigger={"every": "1h"}, overlap="allow", misfire="fire_all")
    await stores.job(now + LONG, name="later", trigger={"every": "1h"})
    await stores.job(None, name="never")
    numbers = count(1)
    due = await stores.plan(numbers)
    assert [run.job for run in due.runs] == ["push"]
    assert due.wait is not None
    assert timedelta() < due.wait <= LONG
    moved = (await stores.jobs.get(PUSH)).next_fire_at
    assert moved is not None
    assert moved > now
    assert (await stores.plan(numbers)).jobs == 0
    await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(next_fire_at=now), None)
    assert list((await stores.plan(numbers)).runs) == [], "the same fire again is no run"
    (assignment,) = await stores.assign()
    await stores.report(assignment.shard.current)
    await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(next_fire_at=now), None)
    assert list((await stores.plan(numbers)).runs) == [], "nor when its run has ended"


async def test_a_plan_that_fails_leaves_all_as_it_was(stores: Stores):
    now = utc_now().replace(microsecond=0)
    await stores.job(now, name="first", trigger={"every": "1h"})
    await stores.job(now, name="second", trigger={"every": "1h"})

    def planned(job, at, active):
        if job.name == "second":
            raise ValueError("no")
        return plan(job, at, active, executors=0, new_id=lambda: run_id(1))

    with pytest.raises(ValueError, match="no"):
        await stores.runs.claim_due(9, planned, None)
    assert (await stores.jobs.get(JobName("first"))).next_fire_at == now
    assert len((await stores.plan(count(1))).runs) == 2


async def test_what_is_due_is_leased_at_once_where_there_is_room(stores: Stores):
    now = utc_now().replace(microsecond=0)
    await stores.job(now, trigger={"every": "1h"}, shards=2)
    await stores.job(now, name="unoffered", handler="other", trigger={"every": "1h"})
    await stores.job(now, name="skipped", trigger={"every": "1h"})
    await stores.add(order(9), job=JobName("skipped"))
    due = await stores.plan(count(1), takers())
    assert sorted(run.state for run in due.runs) == [RunState.RUNNING, RunState.SKIPPED, RunState.WAITING]
    assert [(each.run.job, each.shard.index, each.shard.term) for each in due.assignments] == [
        (PUSH, 0, 1),
        (PUSH, 1, 1),
    ]
    for each in due.assignments:
        assert await stores.runs.get(each.run.id) == each.run
        assert (await stores.runs.list_shards(each.run.id))[each.shard.index] == each.shard
    assert [each.run.job for each in await stores.assign()] == ["skipped"], "of an older run"
    for each in due.assignments:
        await stores.report(each.shard.current)
    assert (await stores.runs.get(due.assignments[0].run.id)).state is RunState.SUCCEEDED


async def test_shards_that_never_began_end_with_their_run(stores: Stores):
    await stores.job(overlap="queue", overlap_limit=1, shards=2)
    begun, queued, skipped = [await stores.add(order(number)) for number in (1, 2, 3)]
    (first, _), (second, _) = await stores.cancel(queued), await stores.cancel(begun)
    for run in (first, second, skipped):
        assert [shard.ended_at for shard in await stores.runs.list_shards(run.id)] == [run.ended_at] * 2
        assert run.ended_at is not None


async def test_the_leases_that_lapsed_first_are_claimed_first(stores: Stores):
    await stores.job(shards=2)
    run = await stores.add(order())
    first, second = await stores.assign()
    later, sooner = timedelta(minutes=-1), timedelta(minutes=-2)
    for shard, lease in ((first.shard, later), (second.shard, sooner)):
        decide = lambda s, _, now, lease=lease: on_beat(s, ONE, s.current, lease, now - LONG)  # noqa: E731
        await stores.runs.finish([Change(shard.key, decide)])
    await stores.runs.claim_lapsed(1, on_lapse)
    states = [shard.state for shard in await stores.runs.list_shards(run.id)]
    assert states == [ShardState.RUNNING, ShardState.WAITING]


async def test_the_pause_before_a_retry_is_kept_as_it_was_decided(stores: Stores):
    await stores.job(retry={"attempts": 2})
    await stores.add(order())
    (assignment,) = await stores.assign()
    pause = timedelta(microseconds=1_234_567)
    failed = Outcome(assignment.shard.current, OutcomeState.FAILED, COUNTERS, is_retryable=True, retry_after=pause)
    decided = []

    def decide(shard, run, now):
        decided.append(on_outcome(shard, failed, run, now))
        return decided[-1]

    await stores.runs.finish([Change(assignment.shard.key, decide)])
    (shard,) = await stores.runs.list_shards(assignment.run.id)
    assert shard.due_at == decided[-1].due_at == decided[-1].at + timedelta(milliseconds=1234)


async def test_waiting_shards_are_leased_under_rising_terms(stores: Stores):
    await stores.job(shards=2)
    run = await stores.add(order())
    first, second = await stores.assign(AT_ONCE)
    assert (first.shard.index, second.shard.index) == (0, 1)
    assert (first.shard.term, first.shard.holder_name) == (1, "name of one")
    assert await stores.assign() == []
    assert (await stores.runs.get(run.id)).state is RunState.RUNNING
    assert first.run == second.run == await stores.runs.get(run.id), "as it is now that it was assigned"
    lapsed = await stores.runs.claim_lapsed(9, on_lapse)
    assert len(lapsed.before) == 2
    again = await stores.assign()
    assert [assignment.shard.term for assignment in again] == [2, 2]
    assert [assignment.shard.losses for assignment in again] == [1, 1]


async def test_shards_go_only_where_they_are_offered_when_they_are_due_and_as_many_as_asked(stores: Stores):
    await stores.job(shards=3)
    await stores.add(order())
    for offers in ({Group("x"): OFFERS[Group("promotion")]}, {Group("promotion"): Offer(frozenset({"no"}), 9)}, {}):
        assert await stores.runs.claim_waiting(takers(LONG, offers)) == []
    first, _ = await stores.assign(slots=2)
    refused = lambda shard, run, now: on_refusal(shard, ONE, first.shard.current, run, now + LONG)  # noqa: E731
    await stores.runs.finish([Change(first.shard.key, refused)])
    assert [assignment.shard.index for assignment in await stores.assign()] == [2], "the refused one is due later"


async def test_reports_end_shards_and_then_the_run(stores: Stores):
    await stores.job(shards=2)
    run = await stores.add(order())
    first, second = await stores.assign()
    changed = await stores.report(first.shard.current, result="{}")
    assert (list(changed.runs), [shard.state for shard, _ in changed.before]) == ([], [ShardState.ASSIGNED])
    changed = await stores.report(second.shard.current, OutcomeState.FAILED, fault=FAULT)
    assert [(run.state, run.reason) for run in changed.runs] == [(RunState.FAILED, "1 of 2 shards failed")]
    assert await stores.runs.get(run.id) == changed.runs[0]
    kept = await stores.runs.list_shards(run.id)
    assert [shard.state for shard in kept] == [ShardState.SUCCEEDED, ShardState.FAILED]
    assert (kept[1].fault, kept[0].counters, kept[0].result) == (FAULT, COUNTERS, "{}")
    assert [shard.holder_name for shard in kept] == ["name of one"] * 2
    assert kept[1].ended_at == changed.runs[0].ended_at


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_report_that_is_late_or_said_twice_finds_its_shard_in_the_history(stores: Stores, shards: int):
    await stores.job(shards=shards)
    run = await stores.add(order())
    attempts = [assignment.shard.current for assignment in await stores.assign()]
    for attempt in attempts:
        await stores.report(attempt)
    kept = await stores.runs.list_shards(run.id)
    for attempt in (*attempts, attempts[0]._replace(term=9), attempts[0]._replace(index=99)):
        changed = await stores.report(attempt, OutcomeState.FAILED)
        assert list(changed.runs) == []
        found = changed.before[0]
        assert found is None or (found[0].state, found[0].reported_term) == (ShardState.SUCCEEDED, 1)
        assert (found is None) == (attempt.index == 99)
    assert await stores.runs.list_shards(run.id) == kept


async def test_several_changes_of_one_shard_apply_in_order(stores: Stores):
    await stores.job()
    await stores.add(order())
    (assignment,) = await stores.assign()
    attempt = assignment.shard.current
    done = Outcome(attempt, OutcomeState.SUCCEEDED, Counters())
    changes = [
        Change(attempt.shard, lambda shard, run, now: on_beat(shard, ONE, attempt, LONG, now)),
        Change(attempt.shard, lambda shard, run, now: on_outcome(shard, done, run, now)),
        Change(attempt.shard, lambda shard, run, now: on_outcome(shard, done, run, now)),
        Change(attempt._replace(index=9).shard, lambda shard, run, now: on_outcome(shard, done, run, now)),
    ]
    changed = await stores.runs.finish(changes)
    assert [found and str(found[0].state) for found in changed.before] == ["assigned", "running", "succeeded", None]


async def test_many_changes_of_many_runs_apply_at_once(stores: Stores):
    await stores.job(overlap="allow", shards=3)
    for number in range(1, 101):
        await stores.add(order(number))
    assignments = await stores.assign()
    assert len(assignments) == 300
    changes = []
    for at, assignment in enumerate(assignments):
        state = (OutcomeState.SUCCEEDED, OutcomeState.FAILED, OutcomeState.RELEASED)[at % 7 % 3]
        outcome = Outcome(assignment.shard.current, state, Counters(rows=at))
        changes.append(
            Change(assignment.shard.key, lambda shard, run, now, said=outcome: on_outcome(shard, said, run, now))
        )
    changed = await stores.runs.finish(changes)
    for run in changed.runs:
        assert await stores.runs.get(run.id) == run
    for assignment, at in zip(assignments, range(300), strict=True):
        shard = (await stores.runs.list_shards(assignment.run.id))[assignment.shard.index]
        expected = (ShardState.SUCCEEDED, ShardState.FAILED, ShardState.WAITING)[at % 7 % 3]
        assert (shard.state, shard.counters.rows) == (expected, at)


async def test_only_lapsed_leases_are_claimed_and_extended_ones_are_not(stores: Stores):
    await stores.job()
    run = await stores.add(order())
    await stores.assign(AT_ONCE)
    assert await stores.runs.extend(LONG) == 1
    assert list((await stores.runs.claim_lapsed(9, on_lapse)).before) == []
    (shard,) = await stores.runs.list_shards(run.id)
    assert shard.state is ShardState.ASSIGNED


async def test_cancel_ends_what_waits_and_names_what_is_held(stores: Stores):
    await stores.job(shards=2)
    run = await stores.add(order())
    await stores.assign(slots=1)
    stopping, held = await stores.cancel(run)
    assert (stopping.state, stopping.is_cancelling) == (RunState.RUNNING, True)
    assert [shard.index for shard in held] == [0]
    await stores.report(held[0].current, OutcomeState.CANCELLED)
    ended = await stores.runs.get(run.id)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, "cancelled on request")
    with pytest.raises(RunEnded):
        await stores.cancel(run)


async def test_a_retry_reopens_what_failed_and_nothing_else(stores: Stores):
    await stores.job(shards=3)
    run = await stores.add(order())
    first, second, third = (assignment.shard.current for assignment in await stores.assign())
    assert await stores.runs.add_pin(second, ONE, "log", "A") == "A"
    await stores.report(first)
    with pytest.raises(NothingToRetry):
        await stores.runs.add_attempts(run.id)
    await stores.report(second, OutcomeState.FAILED, fault=FAULT)
    again = await stores.runs.add_attempts(run.id)
    assert again.state is RunState.RUNNING, "while another shard runs"
    (assignment,) = await stores.assign()
    await stores.report(assignment.shard.current, OutcomeState.FAILED, fault=FAULT)
    await stores.report(third)
    with pytest.raises(NothingToRetry):
        await stores.runs.add_attempts((await _succeeded(stores)).id)
    again = await stores.runs.add_attempts(run.id)
    assert (again.state, again.ended_at, again.reason) == (RunState.RUNNING, None, "")
    assert await stores.runs.get(run.id) == again
    (assignment,) = await stores.assign()
    assert (assignment.shard.index, assignment.shard.term, assignment.shard.attempt) == (1, 3, 1)
    assert (assignment.shard.counters, dict(assignment.pins)) == (COUNTERS, {"log": "A"})
    changed = await stores.report(assignment.shard.current)
    assert [run.state for run in changed.runs] == [RunState.SUCCEEDED]


async def _succeeded(stores: Stores):
    await stores.job(name="other")
    run = await stores.add(order(99), job=JobName("other"))
    (assignment,) = await stores.assign()
    await stores.report(assignment.shard.current)
    return run


async def test_progress_counts_for_the_current_attempt_alone(stores: Stores):
    await stores.job()
    run = await stores.add(order())
    (assignment,) = await stores.assign()
    attempt = assignment.shard.current
    told = Counters(7, 6, "[5]", 4, 3, '{"sent":2}')
    await stores.runs.add_progress(ONE, {attempt._replace(term=9): Counters(1), attempt: told})
    await stores.runs.add_progress(ExecutorId("other"), {attempt: Counters(9)})
    (shard,) = await stores.runs.list_shards(run.id)
    assert shard.counters == told
    await stores.report(attempt)
    await stores.runs.add_progress(ONE, {attempt: Counters(99)})
    assert (await stores.runs.list_shards(run.id))[0].counters == COUNTERS


async def test_the_first_pin_stays_and_only_the_holder_sets_one(stores: Stores):
    await stores.job(shards=2)
    await stores.add(order())
    first, second = (assignment.shard.current for assignment in await stores.assign())
    assert await stores.runs.add_pin(first, ExecutorId("other"), "log", "X") is None
    assert await stores.runs.add_pin(first._replace(term=9), ONE, "log", "X") is None
    assert await stores.runs.add_pin(first, ONE, "log", "A") == "A"
    assert await stores.runs.add_pin(second, ONE, "log", "B") == "A"
    assert await stores.runs.add_pin(second, ONE, "scan/0", "B") == "B"
    await stores.report(first, OutcomeState.RELEASED)
    assert await stores.runs.add_pin(first, ONE, "log", "A") is None
    (again,) = await stores.assign()
    assert dict(again.pins) == {"log": "A", "scan/0": "B"}


async def test_runs_are_listed_newest_first_by_job_state_and_page(stores: Stores):
    await stores.job()
    for number in (1, 2, 3):
        await stores.add(order(number))
    listed = await stores.runs.list(job=None, state=None, before=None, limit=2)
    assert [run.id[-1] for run in listed] == ["3", "2"]
    assert [run.id[-1] for run in await stores.runs.list(job=None, state=None, before=listed[-1].id, limit=2)] == ["1"]
    skipped = await stores.runs.list(job=PUSH, state=RunState.SKIPPED, before=None, limit=9)
    assert [run.id[-1] for run in skipped] == ["3", "2"]
    waiting = await stores.runs.list(job=PUSH, state=RunState.WAITING, before=None, limit=9)
    assert [run.id[-1] for run in waiting] == ["1"]
    assert [run.id[-1] for run in await _all(stores)] == ["3", "2", "1"]
    assert await stores.runs.list(job=JobName("other"), state=None, before=RunId("z"), limit=9) == []
    tally = await stores.runs.get_tally()
    assert {state: count for state, count in tally.items() if count} == {RunState.WAITING: 1}


async def test_the_oldest_history_is_forgotten_in_small_steps(stores: Stores):
    await stores.job()
    for number in range(1, 7):
        await stores.add(order(number, key=f"k{number}"))
    assert list(await stores.runs.prune(LONG, 100, 9)) == []
    assert list(await stores.runs.prune(LONG, 3, 1)) == [run_id(2)], "the first has not ended"
    assert list(await stores.runs.prune(LONG, 3, 9)) == [run_id(3)]
    assert [run.id[-1] for run in await _all(stores)] == ["6", "5", "4", "1"]
    assert list(await stores.runs.prune(-LONG, 100, 2)) == [run_id(4), run_id(5)], "by age"
    again = await stores.add(order(8, key="k5"))
    assert again.id == run_id(8), "what is forgotten has no key"


async def test_runs_are_forgotten_by_the_time_of_their_end_whenever_they_began(stores: Stores):
    await stores.job()
    await stores.add(order(1))
    young, old = str(uuid_utils.uuid7()), order(2).id
    for each in (old, young):
        await stores.add(order()._replace(id=RunId(each), key=each))
    assert list(await stores.runs.prune(LONG, 100, 9)) == []
    assert list(await stores.runs.prune(-LONG, 100, 9)) == [old, young]


async def test_an_attempt_has_a_deadline_that_no_beat_extends(stores: Stores):
    await stores.job(timeout="1m", retry={"attempts": 2, "initial": "0s"})
    await stores.add(order())
    (assignment,) = await stores.assign(LONG)
    shard = assignment.shard
    assert shard.leased_until_at == shard.deadline_at
    await stores.runs.finish([Change(shard.key, lambda shard, _, now: on_beat(shard, ONE, shard.current, LONG, now))])
    (beaten,) = await stores.runs.list_shards(assignment.run.id)
    assert (beaten.state, beaten.leased_until_at) == (ShardState.RUNNING, shard.deadline_at)


async def _all(stores: Stores):
    return await stores.runs.list(job=PUSH, state=None, before=None, limit=99)
