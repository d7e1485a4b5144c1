"""One suite over every implementation of the admin's stores."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from admin.domain.errors import (
    JobActive,
    JobExists,
    NothingToRetry,
    RunEnded,
    UnknownJob,
    UnknownRun,
    UnknownToken,
    VersionConflict,
)
from admin.domain.job import Job
from admin.domain.names import Attempt, ExecutorId, Group, HandlerName, JobName, RunId, TokenId
from admin.domain.plan import Order, plan, run_of
from admin.domain.routing import Assignment, Room, route
from admin.domain.run import Cause, Outcome, OutcomeState, Run, RunState, on_beat, on_cancel, on_lapse, on_outcome
from admin.domain.shard import Counters, Fault, ShardState
from admin.ports import Change, Changed, JobStore, Offer, RunStore, Token, TokenStore
from admin.store import schema
from admin.store.database import Database
from admin.store.jobs import SqlJobs
from admin.store.memory import Books, MemoryJobs, MemoryRuns, MemoryTokens
from admin.store.runs import SqlRuns
from admin.store.tokens import SqlTokens
from tests.support.admin_factories import LEASE, NOW, ONE, definition, order

pytestmark = pytest.mark.anyio

PUSH = JobName("push")
ROOM = Room(ONE, "name of one", Group("promotion"), frozenset({HandlerName("push")}), 1000, 0)
OFFERS = {Group("promotion"): Offer(frozenset({HandlerName("push")}), 1000)}


@dataclass
class Stores:
    jobs: JobStore
    runs: RunStore
    tokens: TokenStore

    async def add(self, wanted: Order, alive: Mapping[Group, int] | None = None) -> Run:
        def made(job: Job, is_active: bool) -> Run:
            executors = (alive or {}).get(job.definition.group, 0)
            return run_of(job, wanted, NOW, is_active=is_active, executors=executors)

        return await self.runs.add(PUSH, wanted.cause, wanted.key, made, NOW)

    async def assign(self, now: datetime = NOW) -> list[Assignment]:
        found = await self.runs.claim_waiting(now, now + LEASE, OFFERS, lambda waiting: route(waiting, [ROOM]))
        return list(found)

    async def report(self, attempt: Attempt, state: OutcomeState, **fields: object) -> Changed:
        outcome = Outcome(attempt, state, Counters(3, 2, "[1]"), **fields)
        change = Change(attempt.shard, lambda shard, run: on_outcome(shard, outcome, run, NOW))
        return await self.runs.finish([change], NOW)


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request, tmp_path) -> AsyncIterator[Stores]:
    if request.param == "memory":
        books = Books()
        yield Stores(MemoryJobs(books), MemoryRuns(books), MemoryTokens())
        return
    url = f"sqlite:///{tmp_path / 'admin.db'}"
    schema.upgrade(url)
    database = Database(url)
    yield Stores(SqlJobs(database), SqlRuns(database), SqlTokens(database))
    database.close()


async def test_a_job_is_kept_as_it_was_given(stores):
    fields = {"trigger": {"cron": "0 0 9 * * ?", "time_zone": "Asia/Shanghai"}, "retry": {"attempts": 3}, "shards": 8}
    added = await stores.jobs.add(definition(**fields), NOW, NOW + LEASE)
    assert await stores.jobs.get(PUSH) == added
    assert (added.version, added.next_fire_at, added.definition) == (1, NOW + LEASE, definition(**fields))


async def test_a_name_is_taken_once(stores):
    await stores.jobs.add(definition(), NOW, None)
    with pytest.raises(JobExists):
        await stores.jobs.add(definition(), NOW, None)


async def test_each_edit_is_a_version_and_needs_the_current_one(stores):
    await stores.jobs.add(definition(), NOW, None)
    paused = await stores.jobs.add_version(PUSH, lambda job: replace(job, is_paused=True), 1)
    assert (paused.version, paused.is_paused) == (2, True)
    assert await stores.jobs.get(PUSH) == paused
    with pytest.raises(VersionConflict):
        await stores.jobs.add_version(PUSH, lambda job: replace(job, is_paused=False), 1)
    assert await stores.jobs.get(PUSH) == paused


async def test_what_is_unknown_is_said_to_be(stores):
    with pytest.raises(UnknownJob):
        await stores.jobs.get(PUSH)
    with pytest.raises(UnknownJob):
        await stores.jobs.cancel(PUSH, None)
    with pytest.raises(UnknownJob):
        await stores.add(order())
    with pytest.raises(UnknownRun):
        await stores.runs.get(order().id)
    with pytest.raises(UnknownRun):
        await stores.runs.list_shards(order().id)
    with pytest.raises(UnknownRun):
        await stores.runs.cancel(order().id, lambda shard, _: on_cancel(shard, NOW), NOW)


async def test_jobs_are_listed_by_name_group_and_page(stores):
    for name, group in [("c", "x"), ("a", "x"), ("b", "y")]:
        await stores.jobs.add(definition(name=name, group=group), NOW, None)
    names = [job.name for job in await stores.jobs.list(group=None, after=None, limit=2)]
    assert names == ["a", "b"]
    assert [job.name for job in await stores.jobs.list(group=None, after=JobName("b"), limit=2)] == ["c"]
    assert [job.name for job in await stores.jobs.list(group=Group("x"), after=None, limit=9)] == ["a", "c"]


async def test_a_job_goes_when_its_runs_have_ended_and_they_stay(stores):
    await stores.jobs.add(definition(), NOW, None)
    run = await stores.add(order())
    with pytest.raises(JobActive):
        await stores.jobs.cancel(PUSH, None)
    await stores.runs.cancel(run.id, lambda shard, _: on_cancel(shard, NOW), NOW)
    with pytest.raises(VersionConflict):
        await stores.jobs.cancel(PUSH, 7)
    await stores.jobs.cancel(PUSH, 1)
    assert (await stores.runs.get(run.id)).state is RunState.CANCELLED


async def test_a_run_is_one_by_job_cause_and_key(stores):
    await stores.jobs.add(definition(overlap="allow"), NOW, None)
    first = await stores.add(order(1, key="k"))
    assert await stores.add(order(2, key="k")) == first
    other = await stores.add(order(3, key="k", cause=Cause.RERUN))
    assert other.id != first.id
    assert [run.id for run in await stores.runs.list(job=PUSH, state=None, before=None, limit=9)] == [
        other.id,
        first.id,
    ]


async def test_a_run_keeps_its_copy_of_the_job(stores):
    fields = {"params": {"a": 1}, "retry": {"attempts": 3, "initial": "1s"}, "timeout": "5m", "shards": 3}
    await stores.jobs.add(definition(**fields), NOW, None)
    run = await stores.add(order())
    await stores.jobs.add_version(PUSH, lambda job: replace(job, definition=definition(handler="other")), None)
    assert await stores.runs.get(run.id) == run
    assert (run.handler, run.params, run.retry.attempts, run.timeout) == ("push", '{"a":1}', 3, timedelta(minutes=5))
    assert [shard.index for shard in await stores.runs.list_shards(run.id)] == [0, 1, 2]


async def test_shards_for_executors_are_as_many_as_are_alive_and_at_least_one(stores):
    await stores.jobs.add(definition(shards="executors", overlap="allow"), NOW, None)
    assert (await stores.add(order(1), {Group("promotion"): 3})).total == 3
    assert (await stores.add(order(2), {Group("other"): 3})).total == 1


async def test_a_run_beside_an_active_one_is_written_down_as_skipped(stores):
    await stores.jobs.add(definition(), NOW, None)
    first = await stores.add(order(1))
    second = await stores.add(order(2))
    assert (second.state, second.ended_at) == (RunState.SKIPPED, NOW)
    assert [shard.state for shard in await stores.runs.list_shards(second.id)] == [ShardState.SKIPPED]
    (only,) = await stores.assign()
    assert only.run.id == first.id


async def test_due_jobs_become_runs_and_move_on_in_one_step(stores):
    await stores.jobs.add(definition(name="push", trigger={"every": "1h"}, overlap="allow"), NOW, NOW)
    await stores.jobs.add(definition(name="later", trigger={"every": "1h"}), NOW, NOW + LEASE)
    await stores.jobs.add(definition(name="paused", trigger={"every": "1h"}), NOW, NOW)
    await stores.jobs.add_version(JobName("paused"), lambda job: replace(job, is_paused=True), None)
    numbers = iter(range(1, 9))

    def planned(job, is_active):
        return plan(job, NOW, is_active=is_active, executors=0, new_id=lambda: order(next(numbers)).id)

    due = await stores.runs.claim_due(NOW, 9, planned)
    assert [run.job for run in due.runs] == ["push"]
    assert due.next_due_at == NOW + LEASE
    assert (await stores.jobs.get(PUSH)).next_fire_at == NOW + timedelta(hours=1)
    assert (await stores.runs.claim_due(NOW, 9, planned)).jobs == 0
    await stores.jobs.add_version(PUSH, lambda job: replace(job, next_fire_at=NOW), None)
    assert list((await stores.runs.claim_due(NOW, 9, planned)).runs) == [], "the same fire again is no run"


async def test_waiting_shards_are_leased_under_rising_terms(stores):
    await stores.jobs.add(definition(shards=2), NOW, None)
    run = await stores.add(order())
    first, second = await stores.assign()
    assert (first.shard.index, second.shard.index) == (0, 1)
    assert (first.shard.term, first.shard.holder_name) == (1, "name of one")
    assert await stores.assign() == []
    assert (await stores.runs.get(run.id)).state is RunState.RUNNING
    await stores.runs.claim_lapsed(NOW + LEASE, 9, lambda shard, run: on_lapse(shard, run, NOW + LEASE))
    again = await stores.assign(NOW + LEASE)
    assert [assignment.shard.term for assignment in again] == [2, 2]


async def test_shards_go_only_where_they_are_offered_when_they_are_due_and_as_many_as_asked(stores):
    await stores.jobs.add(definition(shards=3), NOW, None)
    await stores.add(order())
    for offers in ({Group("x"): OFFERS[Group("promotion")]}, {Group("promotion"): Offer(frozenset({"no"}), 9)}, {}):
        assert await stores.runs.claim_waiting(NOW, NOW + LEASE, offers, lambda w: route(w, [ROOM])) == []
    early = NOW - timedelta(seconds=1)
    assert await stores.assign(early) == []
    two = {Group("promotion"): Offer(frozenset({HandlerName("push")}), 2)}
    assert len(await stores.runs.claim_waiting(NOW, NOW + LEASE, two, lambda w: route(w, [ROOM]))) == 2


async def test_reports_end_shards_and_then_the_run(stores):
    await stores.jobs.add(definition(shards=2), NOW, None)
    run = await stores.add(order())
    first, second = await stores.assign()
    changed = await stores.report(first.shard.current, OutcomeState.SUCCEEDED, result="{}")
    assert (list(changed.runs), [shard.state for shard in changed.before]) == ([], [ShardState.ASSIGNED])
    fault = Fault("ValueError", "no", "Traceback")
    changed = await stores.report(second.shard.current, OutcomeState.FAILED, fault=fault)
    assert [(run.state, run.ended_at) for run in changed.runs] == [(RunState.FAILED, NOW)]
    kept = await stores.runs.list_shards(run.id)
    assert [shard.state for shard in kept] == [ShardState.SUCCEEDED, ShardState.FAILED]
    assert (kept[1].fault, kept[0].counters, kept[0].result) == (fault, Counters(3, 2, "[1]"), "{}")


async def test_several_changes_of_one_shard_apply_in_order(stores):
    await stores.jobs.add(definition(), NOW, None)
    await stores.add(order())
    (assignment,) = await stores.assign()
    attempt = assignment.shard.current
    done = Outcome(attempt, OutcomeState.SUCCEEDED, Counters())
    changes = [
        Change(attempt.shard, lambda shard, run: on_beat(shard, ONE, attempt, NOW + LEASE, NOW)),
        Change(attempt.shard, lambda shard, run: on_outcome(shard, done, run, NOW)),
        Change(attempt.shard, lambda shard, run: on_outcome(shard, done, run, NOW)),
        Change(replace(attempt, index=9).shard, lambda shard, run: on_outcome(shard, done, run, NOW)),
    ]
    changed = await stores.runs.finish(changes, NOW)
    assert [shard and str(shard.state) for shard in changed.before] == ["assigned", "running", "succeeded", None]


async def test_only_lapsed_leases_are_claimed_and_extended_ones_are_not(stores):
    await stores.jobs.add(definition(), NOW, None)
    run = await stores.add(order())
    await stores.assign()
    late = NOW + LEASE
    assert await stores.runs.extend(late + LEASE) == 1
    changed = await stores.runs.claim_lapsed(late, 9, lambda shard, run: on_lapse(shard, run, late))
    assert list(changed.before) == []
    changed = await stores.runs.claim_lapsed(late + LEASE, 9, lambda shard, run: on_lapse(shard, run, late + LEASE))
    assert len(changed.before) == 1
    (shard,) = await stores.runs.list_shards(run.id)
    assert (shard.state, shard.losses, shard.attempt) == (ShardState.WAITING, 1, 0)


async def test_cancel_ends_what_waits_and_names_what_is_held(stores):
    await stores.jobs.add(definition(shards=2), NOW, None)
    run = await stores.add(order())
    one = {Group("promotion"): Offer(frozenset({HandlerName("push")}), 1)}
    await stores.runs.claim_waiting(NOW, NOW + LEASE, one, lambda w: route(w, [ROOM]))
    stopping, held = await stores.runs.cancel(run.id, lambda shard, _: on_cancel(shard, NOW), NOW)
    assert (stopping.state, stopping.is_cancelling) == (RunState.RUNNING, True)
    assert [shard.index for shard in held] == [0]
    await stores.report(held[0].current, OutcomeState.CANCELLED)
    assert (await stores.runs.get(run.id)).state is RunState.CANCELLED
    with pytest.raises(RunEnded):
        await stores.runs.cancel(run.id, lambda shard, _: on_cancel(shard, NOW), NOW)


async def test_a_retry_reopens_what_failed_and_nothing_else(stores):
    await stores.jobs.add(definition(shards=2), NOW, None)
    run = await stores.add(order())
    first, second = await stores.assign()
    await stores.report(first.shard.current, OutcomeState.SUCCEEDED)
    with pytest.raises(NothingToRetry):
        await stores.runs.add_attempts(run.id, NOW)
    await stores.report(second.shard.current, OutcomeState.FAILED, fault=Fault("e", "m"))
    again = await stores.runs.add_attempts(run.id, NOW)
    assert (again.state, again.ended_at, again.reason) == (RunState.RUNNING, None, "")
    (assignment,) = await stores.assign()
    assert (assignment.shard.index, assignment.shard.term, assignment.shard.attempt) == (1, 2, 1)
    assert assignment.shard.counters == Counters(3, 2, "[1]")


async def test_progress_counts_for_the_current_attempt_alone(stores):
    await stores.jobs.add(definition(), NOW, None)
    run = await stores.add(order())
    (assignment,) = await stores.assign()
    attempt = assignment.shard.current
    await stores.runs.add_progress(ONE, {replace(attempt, term=9): Counters(1), attempt: Counters(7, 6, "[5]", 4, 3)})
    (shard,) = await stores.runs.list_shards(run.id)
    assert shard.counters == Counters(7, 6, "[5]", 4, 3)
    await stores.report(attempt, OutcomeState.SUCCEEDED)
    await stores.runs.add_progress(ONE, {attempt: Counters(99)})
    assert (await stores.runs.list_shards(run.id))[0].counters == Counters(3, 2, "[1]")


async def test_the_first_pin_stays_and_only_the_holder_sets_one(stores):
    await stores.jobs.add(definition(shards=2), NOW, None)
    await stores.add(order())
    first, second = (assignment.shard.current for assignment in await stores.assign())
    assert await stores.runs.add_pin(first, ExecutorId("other"), "log", "X") is None
    assert await stores.runs.add_pin(replace(first, term=9), ONE, "log", "X") is None
    assert await stores.runs.add_pin(first, ONE, "log", "A") == "A"
    assert await stores.runs.add_pin(second, ONE, "log", "B") == "A"
    assert await stores.runs.add_pin(second, ONE, "scan/0", "B") == "B"
    await stores.report(first, OutcomeState.RELEASED)
    assert await stores.runs.add_pin(first, ONE, "log", "A") is None
    (again,) = await stores.assign()
    assert dict(again.pins) == {"log": "A", "scan/0": "B"}


async def test_runs_are_listed_newest_first_by_job_state_and_page(stores):
    await stores.jobs.add(definition(), NOW, None)
    for number in (1, 2, 3):
        await stores.add(order(number))
    listed = await stores.runs.list(job=None, state=None, before=None, limit=2)
    assert [run.id[-1] for run in listed] == ["3", "2"]
    assert [run.id[-1] for run in await stores.runs.list(job=None, state=None, before=listed[-1].id, limit=2)] == ["1"]
    skipped = await stores.runs.list(job=PUSH, state=RunState.SKIPPED, before=None, limit=9)
    assert [run.id[-1] for run in skipped] == ["3", "2"]
    assert await stores.runs.list(job=JobName("other"), state=None, before=RunId("z"), limit=9) == []
    tally = await stores.runs.get_tally()
    assert {state: count for state, count in tally.items() if count} == {RunState.WAITING: 1, RunState.SKIPPED: 2}


async def test_tokens_are_found_by_digest_until_they_are_revoked(stores):
    token = Token(TokenId("1"), "ci", Group("promotion"), NOW)
    await stores.tokens.add({"d1": token, "d2": Token(TokenId("2"), "root", None, NOW)})
    assert await stores.tokens.get("d1") == token
    assert await stores.tokens.get("d3") is None
    assert [token.id for token in await stores.tokens.list()] == ["1", "2"]
    await stores.tokens.cancel(TokenId("1"))
    assert await stores.tokens.get("d1") is None
    with pytest.raises(UnknownToken):
        await stores.tokens.cancel(TokenId("1"))
