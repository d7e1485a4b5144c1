"""One suite over every implementation of the admin's stores of jobs and tokens."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from admin.domain.errors import JobActive, JobExists, UnknownJob, UnknownRun, UnknownToken, VersionConflict
from admin.domain.names import Group, JobName, TokenId
from admin.domain.run import RunState
from admin.ports import Token
from tests.support.admin_factories import LEASE, NOW, definition, order
from tests.support.admin_stores import PUSH, Stores

pytestmark = pytest.mark.anyio


async def test_a_job_is_kept_as_it_was_given(stores: Stores):
    fields = {"trigger": {"cron": "0 0 9 * * ?", "time_zone": "Asia/Shanghai"}, "retry": {"attempts": 3}, "shards": 8}
    added = await stores.job(NOW + LEASE, **fields)
    assert await stores.jobs.get(PUSH) == added
    assert (added.version, added.next_fire_at, added.definition) == (1, NOW + LEASE, definition(**fields))


async def test_a_name_is_taken_once(stores: Stores):
    await stores.job()
    with pytest.raises(JobExists):
        await stores.job()


async def test_names_differ_by_case(stores: Stores):
    for name in ("Push", "push", "PUSH"):
        await stores.job(name=name)
    assert [job.name for job in await stores.jobs.list(group=None, after=None, limit=9)] == ["PUSH", "Push", "push"]
    with pytest.raises(UnknownJob):
        await stores.jobs.get(JobName("pUsh"))


async def test_each_edit_is_a_version_and_needs_the_current_one(stores: Stores):
    await stores.job()
    paused = await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(is_paused=True), 1)
    assert (paused.version, paused.is_paused) == (2, True)
    assert await stores.jobs.get(PUSH) == paused
    with pytest.raises(VersionConflict):
        await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(is_paused=False), 1)
    assert await stores.jobs.get(PUSH) == paused


async def test_what_is_unknown_is_said_to_be(stores: Stores):
    with pytest.raises(UnknownJob):
        await stores.jobs.get(PUSH)
    with pytest.raises(UnknownJob):
        await stores.jobs.cancel(PUSH, None)
    with pytest.raises(UnknownJob):
        await stores.add(order())
    for run_id in (order().id, "no id at all", ""):
        with pytest.raises(UnknownRun):
            await stores.runs.get(run_id)
        with pytest.raises(UnknownRun):
            await stores.runs.list_shards(run_id)
        with pytest.raises(UnknownRun):
            await stores.runs.cancel(run_id, lambda *_: None, "")
        with pytest.raises(UnknownRun):
            await stores.runs.add_attempts(run_id)


async def test_jobs_are_listed_by_name_group_and_page(stores: Stores):
    for name, group in [("c", "x"), ("a", "x"), ("b", "y")]:
        await stores.job(name=name, group=group)
    names = [job.name for job in await stores.jobs.list(group=None, after=None, limit=2)]
    assert names == ["a", "b"]
    assert [job.name for job in await stores.jobs.list(group=None, after=JobName("b"), limit=2)] == ["c"]
    assert [job.name for job in await stores.jobs.list(group=Group("x"), after=None, limit=9)] == ["a", "c"]


async def test_a_job_goes_when_its_runs_have_ended_and_they_stay(stores: Stores):
    await stores.job()
    run = await stores.add(order())
    with pytest.raises(JobActive):
        await stores.jobs.cancel(PUSH, None)
    await stores.cancel(run)
    with pytest.raises(VersionConflict):
        await stores.jobs.cancel(PUSH, 7)
    await stores.jobs.cancel(PUSH, 1)
    assert (await stores.runs.get(run.id)).state is RunState.CANCELLED
    listed = await stores.runs.list(job=PUSH, state=None, before=None, limit=9)
    assert [each.id for each in listed] == [run.id], "by the name that the job had"


async def test_a_new_job_of_an_old_name_shares_no_keys_with_it(stores: Stores):
    await stores.job()
    old = await stores.add(order(1, key="k"))
    await stores.cancel(old)
    await stores.jobs.cancel(PUSH, None)
    await stores.job()
    new = await stores.add(order(2, key="k"))
    assert new.id != old.id
    listed = await stores.runs.list(job=PUSH, state=None, before=None, limit=9)
    assert [each.id for each in listed] == [new.id, old.id]


async def test_tokens_are_found_by_digest_until_they_are_revoked(stores: Stores):
    token = Token(TokenId("1"), "ci", Group("promotion"), NOW)
    await stores.tokens.add({"d1": token, "d2": Token(TokenId("2"), "root", None, NOW)})
    assert await stores.tokens.get("d1") == token
    assert await stores.tokens.get("d3") is None
    assert [token.id for token in await stores.tokens.list()] == ["1", "2"]
    await stores.tokens.cancel(TokenId("1"))
    assert await stores.tokens.get("d1") is None
    with pytest.raises(UnknownToken):
        await stores.tokens.cancel(TokenId("1"))


async def test_what_is_due_is_the_first_fire_time_that_the_store_was_told(stores: Stores):
    job = await stores.jobs.add(definition(trigger={"every": "1h"}), lambda now: now + timedelta(hours=1))
    assert job.created_at < (await stores.jobs.get(PUSH)).next_fire_at <= job.created_at + timedelta(hours=1)


async def test_the_first_tokens_are_made_once_whoever_asks(stores: Stores):
    made: list[str] = []

    def make(name: str) -> dict[str, Token]:
        made.append(name)
        return {f"digest of {name}": Token(TokenId(name), name, None, NOW)}

    names = [str(number) for number in range(8)]
    answers = await asyncio.gather(*(stores.tokens.add_first(partial(make, name)) for name in names))
    (kept,) = await stores.tokens.list()
    assert [name for name, was_made in zip(names, answers, strict=True) if was_made] == [kept.name] == made
    await stores.tokens.cancel(kept.id)
    assert await stores.tokens.add_first(partial(make, "another"))
