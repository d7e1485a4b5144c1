"""What admins tell each other of the executors that are linked to them, on every database."""

from dataclasses import replace
from datetime import timedelta

import pytest

from admin.domain.names import AdminId, ExecutorId, Group, HandlerName
from admin.ports import Executor
from tests.support.admin_factories import LEASE, NOW
from tests.support.admin_stores import sql_stores

pytestmark = pytest.mark.anyio

ONE, TWO = AdminId("admin-1"), AdminId("admin-2")
PUSH, PULL = HandlerName("push"), HandlerName("pull")
EXECUTOR = Executor(
    id=ExecutorId("e1"),
    name="ü " * 50,
    group=Group("promotion"),
    handlers=frozenset({PUSH, PULL}),
    slots=4,
    used=3,
    is_draining=True,
    version="1.2",
    connected_at=NOW - timedelta(minutes=5),
    seen_at=NOW - timedelta(seconds=2),
    schemas={PUSH: '{"type": "object"}', PULL: " " * 100_000},
)


async def test_executors_arrive_whole_with_the_schemas_of_their_handlers(admin_database_url):
    with sql_stores(admin_database_url) as stores:
        book = stores.fleet
        assert book is not None
        assert await book.extend(ONE, [EXECUTOR], NOW, LEASE) == await book.extend(ONE, [EXECUTOR], NOW, LEASE)
        others = await book.extend(TWO, [], NOW, LEASE)
        assert others.admins == [ONE]
        (learnt,) = others.executors
        assert replace(learnt, seen_at=EXECUTOR.seen_at) == EXECUTOR
        assert timedelta() <= NOW - learnt.seen_at  # by the clock of who asks, whatever the database's says
        assert (await book.extend(ONE, [], NOW, LEASE)).admins == [TWO]
        assert (await book.extend(TWO, [], NOW, LEASE)).executors == []
        await book.release(ONE)
        assert (await book.extend(TWO, [], NOW, LEASE)).admins == []
