"""What befalls transactions on a server: deadlocks, frozen holders of locks, connections that end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

from admin.domain.errors import StoreUnavailable, Unstorable
from admin.store.databases.server import ServerDatabase
from tests.support.admin_databases import end_connections

pytestmark = pytest.mark.anyio

FROZEN = timedelta(seconds=1)
ROWS = 2


@pytest.fixture
def database(shared_database_url: str) -> Iterator[ServerDatabase]:
    database = ServerDatabase(shared_database_url, FROZEN)
    yield database
    database.close()


@pytest.fixture(autouse=True)
async def rows(database: ServerDatabase) -> AsyncIterator[None]:
    def make(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE counts (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"))
        for row in range(ROWS):
            connection.execute(text("INSERT INTO counts VALUES (:id, 0)"), {"id": row})

    await database.write(make)
    yield


def add_one(connection: Connection, row: int) -> None:
    connection.execute(text("UPDATE counts SET n = n + 1 WHERE id = :id"), {"id": row})


async def counts(database: ServerDatabase) -> list[int]:
    query = text("SELECT n FROM counts ORDER BY id")
    return await database.read(lambda connection: list(connection.execute(query).scalars()))


async def test_a_deadlock_is_broken_and_both_are_done(database: ServerDatabase) -> None:
    both_hold = threading.Barrier(2)
    tries: list[int] = []

    def add(connection: Connection, first: int) -> None:
        tries.append(first)
        add_one(connection, first)
        if len(tries) <= 2:
            both_hold.wait(10)
        add_one(connection, 1 - first)

    await asyncio.gather(*(database.write(lambda connection, row=row: add(connection, row)) for row in range(2)))
    assert await counts(database) == [2, 2]
    assert len(tries) >= 3, "one of both began anew"


async def test_what_a_frozen_admin_has_locked_is_free_again_and_its_work_is_done_anew(
    database: ServerDatabase, shared_database_url: str
) -> None:
    frozen = ServerDatabase(shared_database_url, FROZEN)
    holds, thawed = threading.Event(), threading.Event()
    tries: list[float] = []

    def freeze(connection: Connection) -> None:
        tries.append(time.monotonic())
        add_one(connection, 0)
        if not holds.is_set():
            holds.set()
            thawed.wait(30)
        add_one(connection, 1)

    freezing = asyncio.ensure_future(frozen.write(freeze))
    await asyncio.to_thread(holds.wait)
    await database.write(lambda connection: add_one(connection, 0))
    took = time.monotonic() - tries[0]
    thawed.set()
    await freezing
    frozen.close()
    assert took < 4 * FROZEN.total_seconds()
    assert await counts(database) == [2, 1]
    assert len(tries) == 2


async def test_a_lock_that_was_waited_for_too_long_is_asked_for_again(
    database: ServerDatabase, shared_database_url: str
) -> None:
    holder = ServerDatabase(shared_database_url, timedelta(seconds=60))
    holds, free = threading.Event(), threading.Event()
    tries: list[int] = []

    def hold(connection: Connection) -> None:
        add_one(connection, 0)
        holds.set()
        free.wait(30)

    def add(connection: Connection) -> None:
        tries.append(1)
        if len(tries) == 2:
            free.set()
        add_one(connection, 0)

    holding = asyncio.ensure_future(holder.write(hold))
    await asyncio.to_thread(holds.wait)
    await database.write(add)
    await holding
    holder.close()
    assert (len(tries) >= 2, await counts(database)) == (True, [2, 0])


async def test_connections_that_ended_meanwhile_cost_nothing(
    database: ServerDatabase, shared_database_url: str
) -> None:
    for _ in range(3):
        await asyncio.gather(*(database.write(lambda connection: add_one(connection, 0)) for _ in range(6)))
        await asyncio.gather(*(counts(database) for _ in range(4)))
        end_connections(shared_database_url)
    assert await counts(database) == [18, 0]


async def test_a_connection_that_ends_inside_a_transaction_undoes_it_and_it_is_done_anew(
    database: ServerDatabase, shared_database_url: str
) -> None:
    tries: list[int] = []

    def add(connection: Connection) -> None:
        tries.append(1)
        add_one(connection, 0)
        if len(tries) == 1:
            end_connections(shared_database_url)
        add_one(connection, 1)

    await database.write(add)
    assert await counts(database) == [1, 1]
    assert len(tries) == 2


async def test_a_commit_without_an_answer_is_not_done_anew(database: ServerDatabase, shared_database_url: str) -> None:
    """Nobody knows whether it came about."""
    tries: list[int] = []

    def add(connection: Connection) -> None:
        tries.append(1)
        add_one(connection, 0)
        end_connections(shared_database_url)

    with pytest.raises(StoreUnavailable):
        await database.write(add)
    assert len(tries) == 1


async def test_work_that_fails_is_not_done_anew(database: ServerDatabase) -> None:
    tries: list[int] = []

    def fail(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("INSERT INTO counts VALUES (0, 0)"))

    with pytest.raises(Unstorable):
        await database.write(fail)
    assert len(tries) == 1
