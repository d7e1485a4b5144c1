"""The book in which admins tell each other who is linked to them, over every database."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from admin.domain.names import AdminId, ExecutorId, Group, HandlerName
from admin.ports import Executor, Others
from admin.store.fleet import FORGOTTEN
from admin.store.tables import admins, executors
from tests.support.admin_factories import NOW
from tests.support.admin_stores import Stores, sql_stores

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=60)
PAST = timedelta(milliseconds=-1)  # a lease within which nobody was
FIRST, SECOND = AdminId("first"), AdminId("second")
ONE = Executor(
    id=ExecutorId("one"),
    name="name of one",
    group=Group("promotion"),
    handlers=frozenset({HandlerName("push"), HandlerName("推送")}),
    slots=8,
    used=3,
    is_draining=True,
    version="1.0",
    connected_at=NOW - timedelta(minutes=5),
    seen_at=NOW - timedelta(seconds=2),
)
TWO = replace(ONE, id=ExecutorId("two"))


@pytest.fixture
def book(admin_database_url: str) -> Iterator[Stores]:
    with sql_stores(admin_database_url) as stores:
        yield stores


async def others(book: Stores, admin: AdminId = SECOND, *linked: Executor, lease: timedelta = LEASE) -> Others:
    return await book.fleet.extend(admin, linked, NOW, lease)


async def test_an_admin_learns_of_the_others_and_not_of_itself(book: Stores):
    assert await others(book, FIRST, ONE) == Others([], [])
    assert await others(book, FIRST, ONE) == Others([], [])
    found = await others(book, SECOND, TWO)
    assert found.admins == [FIRST]
    (executor,) = found.executors
    assert replace(executor, seen_at=ONE.seen_at) == ONE
    assert abs((await others(book, FIRST)).executors[0].seen_at - TWO.seen_at) < timedelta(seconds=30)


async def test_a_sign_of_life_is_told_by_the_clock_of_who_asks(book: Stores):
    await others(book, FIRST, ONE)
    elsewhere = NOW + timedelta(days=1)
    (executor,) = (await book.fleet.extend(SECOND, [], elsewhere, LEASE)).executors
    assert timedelta(seconds=2) <= elsewhere - executor.seen_at < timedelta(seconds=32)


async def test_what_an_admin_says_takes_the_place_of_what_it_said(book: Stores):
    await others(book, FIRST, ONE)
    await others(book, FIRST, TWO)
    assert [executor.id for executor in (await others(book)).executors] == [TWO.id]
    await others(book, FIRST)
    assert await others(book) == Others([FIRST], [])


async def test_an_admin_that_was_silent_for_a_lease_counts_no_more(book: Stores):
    await others(book, FIRST, ONE)
    assert await others(book, lease=PAST) == Others([], [])
    assert len((await others(book)).executors) == 1


async def test_an_executor_that_moved_on_may_be_seen_twice(book: Stores):
    await others(book, FIRST, ONE)
    await others(book, SECOND, replace(ONE, seen_at=NOW))
    found = await others(book, AdminId("third"))
    assert found.admins == [FIRST, SECOND]
    assert [executor.id for executor in found.executors] == [ONE.id, ONE.id]


async def test_an_admin_that_leaves_is_gone_at_once(book: Stores):
    await others(book, FIRST, ONE)
    await book.fleet.release(FIRST)
    await book.fleet.release(FIRST)
    assert await others(book) == Others([], [])


async def test_an_admin_that_was_silent_for_long_is_forgotten_with_its_executors(book: Stores):
    await others(book, FIRST, ONE, TWO)
    back = FORGOTTEN // timedelta(milliseconds=1) + 1
    await book.database.write(
        lambda connection: connection.execute(update(admins).values(seen_ms=admins.c.seen_ms - back))
    )
    await others(book)
    count = select(select(func.count()).select_from(admins).scalar_subquery(), func.count()).select_from(executors)
    assert await book.database.read(lambda connection: tuple(connection.execute(count).one())) == (1, 0)
