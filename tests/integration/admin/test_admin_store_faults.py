"""What the store and the reaper do when the disk or the clock misbehaves."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from admin.dispatch.grpc_session import Sessions
from admin.domain.errors import StoreUnavailable
from admin.domain.shard import ShardState
from admin.scheduler.reaper import Reaper
from admin.store.databases.sqlite import SqliteDatabase
from admin.store.memory.books import Books
from admin.store.memory.runs import MemoryRuns
from admin.wakeup.local import LocalWakeup
from tests.support.admin_factories import LEASE, NOW, run, shard

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
