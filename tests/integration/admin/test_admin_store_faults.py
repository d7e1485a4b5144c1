"""What the store and the reaper do when the disk or the clock misbehaves."""

import asyncio
from datetime import datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import text

from admin.dispatch.grpc_session import Sessions
from admin.domain.errors import StoreUnavailable
from admin.domain.form import definition_of
from admin.domain.names import JobId
from admin.domain.shard import ShardState
from admin.operations.fleet import Fleet
from admin.operations.jobs import Jobs
from admin.scheduler.reaper import Reaper
from admin.store import schema
from admin.store.databases.sqlite import SqliteDatabase
from admin.store.jobs import SqlJobs
from admin.store.memory.books import Books
from admin.store.memory.runs import MemoryRuns
from admin.store.runs.definitions import Definitions
from admin.store.runs.runs import SqlRuns
from admin.wakeup.local import LocalWakeup
from tests.support.admin_factories import LEASE, NOW, definition, run, run_id, shard
from tests.support.admin_stores import PUSH, Stores, look_again, sql_stores

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(tmp_path):
    database = SqliteDatabase(f"sqlite:///{tmp_path / 'any.db'}", lambda: NOW)
    yield database
    database.close()


async def test_nothing_is_acknowledged_that_shared_its_commit_with_a_transaction_that_broke(database):
    await database.write(lambda connection: connection.execute(text("CREATE TABLE kept (n INTEGER)")))
    hold = asyncio.Event()
    loop = asyncio.get_running_loop()

    def held(_):
        asyncio.run_coroutine_threadsafe(hold.wait(), loop).result()

    def insert(connection):
        connection.execute(text("INSERT INTO kept VALUES (1)"))

    def broken(connection):
        connection.connection.driver_connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full

    writes = [asyncio.ensure_future(database.write(work)) for work in (held, insert, broken, insert)]
    await asyncio.sleep(0)  # all but the first wait for one commit together
    hold.set()
    answers = await asyncio.gather(*writes, return_exceptions=True)
    found = await database.read(lambda connection: connection.scalar(text("SELECT count(*) FROM kept")))
    acknowledged = [answer for answer in answers[1:] if not isinstance(answer, Exception)]
    assert acknowledged == []
    assert isinstance(answers[1], StoreUnavailable)
    assert found == 0
    await database.write(insert)


async def test_a_clock_that_is_set_back_does_not_keep_shards_with_the_dead():
    now = NOW
    books = Books(lambda: now)
    books.add_run(run())
    held = shard(ShardState.RUNNING, leased_until_at=NOW + LEASE)
    books.keep([held])
    wakeup = LocalWakeup()

    async def is_alone() -> bool:
        return True

    reaper = Reaper(MemoryRuns(books), Sessions(), wakeup, lambda: now, lease=LEASE, is_alone=is_alone)
    await reaper.run_once()
    now = NOW - timedelta(hours=1)
    assert await reaper.run_once() == {"extended": 1, "lost": 0}
    for _ in range(6):
        now += LEASE / 5
        await reaper.run_once()
    assert books.shards[held.key].state is ShardState.WAITING


async def test_an_admin_that_was_away_takes_from_the_silent_at_once_where_others_were_awake():
    books = Books(lambda: NOW)
    books.add_run(run())
    lapsed = shard(ShardState.RUNNING, leased_until_at=NOW - LEASE)
    books.keep([lapsed])

    async def is_alone() -> bool:
        return False

    reaper = Reaper(MemoryRuns(books), Sessions(), LocalWakeup(), lambda: NOW, lease=LEASE, is_alone=is_alone)
    assert await reaper.run_once() == {"extended": 0, "lost": 1}
    assert books.shards[lapsed.key].state is ShardState.WAITING


async def test_the_number_of_a_definition_that_was_undone_is_never_that_of_another(tmp_path):
    with sql_stores(f"sqlite:///{tmp_path / 'admin.db'}") as stores:
        definitions = Definitions()
        jobs = SqlJobs(stores.database, definitions)

        def undone(connection):
            key = definitions.add(connection, JobId(1), definition(name="undone"))
            assert definitions.get(connection, [key])[key].name == "undone"
            raise LookupError

        for name in ("first", "second"):
            with pytest.raises(LookupError):
                await stores.database.write(undone)
            added = await jobs.add(definition(name=name), lambda now: None)
            assert await jobs.get(added.name) == added


async def test_a_clock_that_was_a_year_ahead_keeps_no_job_from_firing_and_doubles_no_fire(tmp_path):
    now = NOW
    url = f"sqlite:///{tmp_path / 'admin.db'}"
    schema.upgrade(url)
    database, definitions, numbers = SqliteDatabase(url, lambda: now), Definitions(), count(1)
    try:
        runs = SqlRuns(database, definitions, look_again)
        stores = Stores(SqlJobs(database, definitions), runs, None, None, database)
        fleet, new_id = Fleet(Sessions(), lambda: now, LEASE), lambda: run_id(next(numbers))
        jobs = Jobs(stores.jobs, runs, fleet, LocalWakeup(), lambda: now, new_id)

        async def fired() -> list[datetime]:
            return [run.fire_at for run in (await stores.plan(numbers)).runs]

        hour = timedelta(hours=1)
        form = {"name": "push", "group": "promotion", "handler": "push", "trigger": {"every": "1h"}, "overlap": "allow"}
        await jobs.create(definition_of(form))
        now = NOW + hour
        assert await fired() == [now]
        now += timedelta(days=365)
        ahead = await fired()
        assert ahead[-1] == now
        now = NOW + hour + timedelta(minutes=30)
        assert await fired() == [], "the next fire is far off"
        await jobs.pause(PUSH)
        resumed = await jobs.resume(PUSH)
        assert resumed.next_fire_at == NOW + 2 * hour
        for wanted in (ahead[0], NOW + 3 * hour):
            now = max(now, wanted)
            found = await fired()
            assert found == [] if wanted in ahead else found == [wanted]
        now = NOW + hour
        await jobs.update(definition_of({**form, "trigger": {"every": "30m"}}), None)
        now += timedelta(minutes=30)
        assert await fired() == [now], "a fire time that led to no run"
        await stores.jobs.add_version(PUSH, lambda job, *_: job._replace(next_fire_at=NOW + hour), None)
        assert NOW + hour not in await fired(), "one that did"
        listed = [run.fire_at for run in await runs.list(job=PUSH, state=None, before=None, limit=99)]
        assert len(listed) == len(set(listed))
    finally:
        database.close()
