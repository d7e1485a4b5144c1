"""What an admin knows of the others: looked up when it matters, and taken back when it leaves."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from admin.dispatch.grpc_session import Sessions
from admin.domain.errors import StoreUnavailable
from admin.domain.names import AdminId
from admin.operations.fleet import SharedFleet
from admin.ports import Executor, Others
from admin.scheduler.registrar import Registrar
from admin.wakeup.local import LocalWakeup
from tests.support.admin_factories import LEASE, NOW

pytestmark = pytest.mark.anyio

ME = AdminId("me")


class FakeBook:
    """Says what the test says; two calls at once would stand in each other's way in a real one."""

    def __init__(self) -> None:
        self.others = Others()
        self.released: list[AdminId] = []
        self.extended = asyncio.Event()
        self.is_away = False
        self._is_busy = False

    async def extend(self, admin: AdminId, linked: Sequence[Executor], now: datetime, lease: timedelta) -> Others:
        assert not self._is_busy
        self._is_busy = True
        await asyncio.sleep(0)
        self._is_busy = False
        self.extended.set()
        return self.others

    async def release(self, admin: AdminId) -> None:
        if self.is_away:
            raise StoreUnavailable(reason="away")
        self.released.append(admin)


def registrar_of(book: FakeBook) -> Registrar:
    return Registrar(ME, book, SharedFleet(Sessions()), LocalWakeup(), lambda: NOW, lease=LEASE)


async def test_whether_it_is_alone_is_looked_up_each_time() -> None:
    book = FakeBook()
    registrar = registrar_of(book)
    assert await registrar.is_alone()
    book.others = Others([AdminId("another")])
    assert not await registrar.is_alone()
    book.others = Others()
    assert await registrar.is_alone(), "the other one was frozen too"


async def test_who_looks_does_not_stand_in_the_way_of_who_tells() -> None:
    registrar = registrar_of(FakeBook())
    await asyncio.gather(*(registrar.is_alone() for _ in range(3)), registrar.run_once())


@pytest.mark.parametrize("is_away", [False, True])
async def test_an_admin_that_ends_leaves_the_book(is_away: bool) -> None:
    book = FakeBook()
    book.is_away = is_away
    registrar = registrar_of(book)
    running = asyncio.create_task(registrar.run())
    await book.extended.wait()
    assert book.released == []
    registrar.stop()
    await asyncio.wait_for(running, 5)
    assert book.released == ([] if is_away else [ME])
