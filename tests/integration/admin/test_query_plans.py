"""Behind a million runs no statement of the store reads a table, or an index, from end to end."""

import time
from datetime import timedelta
from itertools import count

import pytest

from admin.domain.names import ExecutorId, Group, HandlerName, JobName, RunId
from admin.domain.routing import Room, route
from admin.domain.run import Cause, Outcome, OutcomeState, RunState, on_beat, on_cancel, on_lapse, on_outcome
from admin.domain.shard import Counters
from admin.ports import Change, Offer, Takers
from admin.store.databases.server import server_engine
from admin.store.databases.sqlite import sqlite_engine
from admin.store.opening import is_shared
from admin.store.types import uuid_text
from tests.support.admin_factories import definition, order, run_id
from tests.support.admin_plans import Scan, active_id, captured, fill, name_of, scans
from tests.support.admin_stores import Stores, sql_stores

pytestmark = pytest.mark.anyio

GROUP = Group("group-11")
ROOM = Room(ExecutorId("one"), "one", GROUP, frozenset({HandlerName("push")}), 50, 0)
LEASE = timedelta(minutes=1)
ALLOWED = {
    "a page of all jobs, in the order of an index up to its limit": ("FROM jobs ORDER BY jobs.name LIMIT", "jobs"),
    "a page of jobs behind a name, which MariaDB sorts while they are few": ("FROM jobs WHERE jobs.name > %", "jobs"),
    "a page of all runs, newest first, likewise": ("FROM ended_runs ORDER BY ended_runs.id DESC LIMIT", "ended_runs"),
    "a page of the runs that have not ended: few": ("ORDER BY runs.id DESC LIMIT", "runs"),
    "the tally of the runs that have not ended: few": ("FROM runs GROUP BY runs.state", "runs"),
    "the jobs of which something is queued, by a partial index": ("FROM runs AS queued WHERE", "runs"),
    "the newest runs that stay are counted, once a minute": (
        "SELECT ended_runs.id FROM ended_runs ORDER",
        "ended_runs",
    ),
    "every lease is extended, when an admin has slept": ("UPDATE shards SET leased_until_ms=", "shards"),
}


@pytest.mark.parametrize(
    "ended",
    [
        pytest.param(100_000, marks=pytest.mark.slow),
        pytest.param(1_000_000, marks=[pytest.mark.proof, pytest.mark.timeout(900)]),
    ],
)
async def test_no_statement_reads_a_table_from_end_to_end(
    admin_database_url: str, ended: int, request: pytest.FixtureRequest
) -> None:
    with sql_stores(admin_database_url) as stores:
        url = admin_database_url
        engine = server_engine(url, pool_size=1) if is_shared(url) else sqlite_engine(url, begin="BEGIN")
        request.addfinalizer(engine.dispose)
        began = time.monotonic()
        fill(engine, ended, int(time.time() * 1000))
        filled = time.monotonic()
        with captured() as statements:
            await ask_everything(stores, [RunId(uuid_text(active_id(number))) for number in range(400)])
        print(f"{ended} runs in {filled - began:.1f} s, asked in {time.monotonic() - filled:.1f} s")
        found = [scan for each, values in statements.items() for scan in scans(engine, each, values)]
    unknown = [scan for scan in found if not _is_allowed(scan)]
    assert not unknown, "\n".join(map(str, unknown))
    assert len(statements) > 40


def _is_allowed(scan: Scan) -> bool:
    return any(part in scan.statement and scan.table == table for part, table in ALLOWED.values())


async def ask_everything(stores: Stores, active: list[RunId]) -> None:
    """Every verb and list of the stores, with few and with many keys."""
    takers = Takers(LEASE, {GROUP: Offer(ROOM.handlers, 50)}, lambda waiting: route(waiting, [ROOM]))
    await stores.job(name="new", trigger={"every": "1h"})
    edited = definition(name=name_of(7), trigger={"every": "2h"}, overlap="replace")
    await stores.jobs.add_version(JobName(name_of(7)), lambda job, *_: job._replace(definition=edited), None)
    await stores.jobs.add_version(JobName("new"), lambda job, *_: job._replace(is_paused=True), None)
    await stores.add(order(1, key="k"), job=JobName("new"))
    await stores.add(order(2, key="k"), job=JobName("new"))
    await stores.add(order(3, cause=Cause.RERUN), job=JobName(name_of(7)))
    await stores.plan(count(10), takers)
    await stores.runs.claim_queued(500)
    assignments = await stores.runs.claim_waiting(takers)
    assert assignments
    await report(stores, assignments)
    await stores.runs.claim_lapsed(500, on_lapse)
    await stores.runs.extend(LEASE)
    await stores.cancel(await stores.runs.get(active[5]))
    await stores.runs.cancel(active[100], on_cancel, "no")
    await read_everything(stores, active[7])
    await stores.runs.prune(timedelta(days=30), 10_000_000, 500)
    await stores.runs.prune(timedelta(days=30), 1_000, 500)
    await stores.runs.prune(-LEASE, 10_000_000, 500)
    await stores.runs.cancel(run_id(1), on_cancel, "no")
    await stores.jobs.cancel(JobName("new"), None)


async def report(stores: Stores, assignments) -> None:
    one, *others = assignments
    attempt = one.shard.current
    await stores.runs.add_progress(one.shard.holder, {attempt: Counters(1)})
    await stores.runs.add_pin(attempt, one.shard.holder, "log", "A")
    beat = lambda shard, _, now: on_beat(shard, shard.holder, shard.current, LEASE, now)  # noqa: E731
    await stores.runs.finish([Change(each.shard.key, beat) for each in assignments])
    changes = []
    for each in assignments:
        said = Outcome(each.shard.current, OutcomeState.FAILED, Counters(), is_retryable=each is others[0])
        changes.append(Change(each.shard.key, lambda shard, run, now, said=said: on_outcome(shard, said, run, now)))
    await stores.runs.finish(changes)
    await stores.runs.finish(changes[:1])
    await stores.runs.add_attempts(one.run.id)
    await stores.runs.add_attempts(others[1].run.id)


async def read_everything(stores: Stores, run: RunId) -> None:
    await stores.jobs.get(JobName(name_of(3)))
    for group in (None, GROUP):
        for after in (None, JobName(name_of(100))):
            await stores.jobs.list(group=group, after=after, limit=50)
    middle = RunId(uuid_text(b"0000000000050000"))
    for job in (None, JobName(name_of(9))):
        for state in (None, *RunState):
            for before in (None, middle):
                await stores.runs.list(job=job, state=state, before=before, limit=50)
    for each in (run, middle):
        await stores.runs.get(each)
        await stores.runs.list_shards(each)
    await stores.runs.get_tally()
