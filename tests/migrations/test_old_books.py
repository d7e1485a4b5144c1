"""What the first version kept is there after an upgrade, on every database; a downgrade keeps jobs and tokens."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from admin.domain.form import definition_of
from admin.domain.names import Attempt, ExecutorId, JobName
from admin.domain.retry import Backoff, RetryPolicy
from admin.domain.run import Cause, RunState
from admin.domain.shard import NOTHING_YET, Counters, Fault, ShardState
from admin.store import schema
from admin.store.runs import history
from admin.store.runs.definitions import Definitions
from tests.support import old_books
from tests.support.admin_factories import ONE, definition, order
from tests.support.admin_stores import sql_stores
from tests.support.old_books import (
    CANCELLED,
    DEFINITION,
    EDITED,
    FAILED,
    FIRST,
    GONE,
    MS,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    TOKENS,
    TRIGGERS,
    WAITING,
)

pytestmark = pytest.mark.anyio


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=MS + ms)


@pytest.fixture
def url(admin_database_url: str) -> str:
    old_books.write(admin_database_url)
    return admin_database_url


async def test_jobs_are_as_they_were_and_new_ones_get_numbers_of_their_own(url):
    with sql_stores(url) as stores:
        jobs = await stores.jobs.list(group=None, after=None, limit=99)
        assert [job.definition for job in jobs] == [
            definition_of({**DEFINITION, "name": name, "trigger": trigger}) for name, trigger in TRIGGERS.items()
        ]
        assert [job.next_fire_at for job in jobs] == [at(60_000), None, None, at(60_000), at(60_000)]
        assert [job.name for job in jobs if job.is_paused] == ["every"]
        assert {(job.version, job.created_at, job.updated_at, job.last_fire_at) for job in jobs} == {
            (3, at(-1_000), at(0), None)
        }
        new = await stores.job(name="new")
        assert new.id not in {job.id for job in jobs}
        edited = await stores.jobs.add_version(
            JobName("push"), lambda job, *_: job._replace(definition=definition()), 3
        )
        assert edited.definition_id not in {job.definition_id for job in (*jobs, new)}
        run = await stores.add(order(99), job=JobName("new"))
        assert [each.id for each in await stores.runs.list(job=new.name, state=None, before=None, limit=9)] == [run.id]


async def test_what_is_due_fires_once_and_not_again(url):
    with sql_stores(url) as stores:
        numbers = iter(range(100, 999))
        due = await stores.plan(numbers)
        assert (due.jobs, sorted(run.job for run in due.runs)) == (3, ["at", "push", "unix"])
        assert (await stores.plan(numbers)).jobs == 0


async def test_runs_that_have_not_ended_go_on(url):
    with sql_stores(url) as stores:
        waiting, running = await stores.runs.get(WAITING), await stores.runs.get(RUNNING)
        push = await stores.jobs.get(JobName("push"))
        assert (waiting.definition_id, waiting.definition) == (push.definition_id, push.definition)
        assert (waiting.state, waiting.cause, waiting.key, waiting.fire_at) == (
            RunState.WAITING,
            Cause.FIRE,
            str(MS),
            at(0),
        )
        assert (running.state, running.key, running.started_at) == (RunState.RUNNING, "mine", at(1))
        assert (running.cancelled_at, running.reason, running.is_queued) == (at(2), "why", False)
        fresh, failed_once = await stores.runs.list_shards(WAITING)
        assert (fresh.state, fresh.attempt, fresh.term, fresh.counters) == (ShardState.WAITING, 0, 0, NOTHING_YET)
        assert (failed_once.holder, failed_once.fault) == (ONE, Fault("failed", ""))
        held, offered = await stores.runs.list_shards(RUNNING)
        assert (held.state, held.leased_until_at, held.counters) == (
            ShardState.RUNNING,
            at(9_000),
            Counters(7, 0, "[7]"),
        )
        assert (offered.state, offered.holder, offered.term, offered.losses) == (
            ShardState.ASSIGNED,
            ExecutorId("two"),
            4,
            2,
        )
        assert await stores.runs.add_pin(Attempt(RUNNING, 0, 1), ONE, "log", "other") == "abc"
        assert {(item.shard.run_id, item.shard.term) for item in await stores.assign()} == {(WAITING, 1), (WAITING, 3)}
        await stores.report(Attempt(WAITING, 0, 1))
        await stores.report(Attempt(WAITING, 1, 3))
        assert (await stores.runs.get(WAITING)).state is RunState.SUCCEEDED


async def test_the_history_is_as_it_was(url):
    with sql_stores(url) as stores:
        listed = await stores.runs.list(job=JobName("push"), state=None, before=None, limit=99)
        states = {run.id: run.state for run in listed}
        assert states == {
            EDITED: RunState.SUCCEEDED,
            SKIPPED: RunState.SKIPPED,
            CANCELLED: RunState.CANCELLED,
            FAILED: RunState.FAILED,
            SUCCEEDED: RunState.SUCCEEDED,
            RUNNING: RunState.RUNNING,
            WAITING: RunState.WAITING,
        }
        done = await stores.runs.get(SUCCEEDED)
        assert (done.params, done.started_at, done.ended_at) == ('{"promotion_id":43}', at(1_000), at(5_000))
        first, second = await stores.runs.list_shards(SUCCEEDED)
        assert (first.counters, first.result, first.ended_at) == (Counters(10, 9, '["k"]'), '{"n": 1}', at(3_000))
        assert (second.attempt, second.term, second.holder_name, second.result) == (2, 3, "", "ü" * 400)
        failed, lost = await stores.runs.list_shards(FAILED)
        assert (failed.state, failed.fault) == (ShardState.FAILED, Fault("fail", "no", "at ü"))
        assert (lost.state, lost.losses, lost.reported_term) == (ShardState.LOST, 100, 0)
        begun, unbegun = await stores.runs.list_shards(CANCELLED)
        assert (begun.started_at, unbegun.started_at, unbegun.ended_at) == (at(1_000), None, at(9))
        assert {shard.state for shard in await stores.runs.list_shards(SKIPPED)} == {ShardState.SKIPPED}
        load = lambda connection: history.load(connection, Definitions(), [SUCCEEDED, FAILED])  # noqa: E731
        assert stores.database is not None
        found = await stores.database.read(load)
        assert {run_id: dict(ended.pins) for run_id, ended in found.items()} == {SUCCEEDED: {"log": "abc"}, FAILED: {}}
        assert (await stores.runs.add_attempts(FAILED)).state is RunState.RUNNING
        assert [item.shard.index for item in await stores.assign() if item.run.id == FAILED] == [0, 1]


async def test_a_run_keeps_what_its_job_said_then_also_when_the_job_is_gone(url):
    with sql_stores(url) as stores:
        edited, gone = await stores.runs.get(EDITED), await stores.runs.get(GONE)
        assert (edited.handler, edited.retry.attempts, edited.retry.backoff) == ("before", 1, Backoff.LINEAR)
        assert edited.definition.trigger == (await stores.jobs.get(JobName("push"))).definition.trigger
        assert (gone.job, gone.handler, gone.group) == ("gone", "old", "others")
        assert gone.retry == RetryPolicy(3, Backoff.LINEAR, timedelta(seconds=2), timedelta(seconds=90))
        assert gone.timeout == timedelta(minutes=30)
        assert [run.id for run in await stores.runs.list(job=gone.job, state=None, before=None, limit=9)] == [GONE]


async def test_tokens_are_as_they_were_after_an_upgrade_and_a_downgrade(url):
    with sql_stores(url) as stores:
        assert [(token.id, token.name, token.group) for token in await stores.tokens.list()] == [
            (key, name, group) for key, name, _, group in TOKENS
        ]
        assert (await stores.tokens.get("e" * 64)).name == "ci"
    before = old_books.rows_of(url, "tokens", "id")
    schema.downgrade(url, FIRST)
    assert old_books.rows_of(url, "tokens", "id") == before


async def test_a_downgrade_keeps_jobs_as_far_as_the_first_version_knows_them(url):
    before = old_books.rows_of(url, "jobs", "name")
    with sql_stores(url) as stores:
        await stores.job(name="zz1", trigger={"after": "1h"}, overlap="queue", overlap_limit=3, retry={"jitter": 0.5})
        await stores.job(name="zz2", trigger={"every": "1h"}, overlap="allow", overlap_limit=3)
    schema.downgrade(url, FIRST)
    *same, after, every = old_books.rows_of(url, "jobs", "name")
    assert [_read(row) for row in same] == [_read(row) for row in before]
    assert (after["is_paused"], _read(after)["definition"]["trigger"]) == (True, {"manual": True})
    assert _read(after)["definition"]["overlap"] == "skip"
    assert (every["is_paused"], _read(every)["definition"]["overlap"]) == (False, "allow")
    known = set(DEFINITION), set(DEFINITION["retry"])
    assert {
        (*map(frozenset, (form, form["retry"])),) for form in (_read(after)["definition"], _read(every)["definition"])
    } == {(*map(frozenset, known),)}
    schema.upgrade(url)
    assert schema.drift(url) == []


def _read(row: dict[str, object]) -> dict[str, object]:
    return {**row, "is_paused": bool(row["is_paused"]), "definition": json.loads(str(row["definition"]))}
