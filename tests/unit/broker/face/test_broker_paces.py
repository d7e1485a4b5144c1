"""Who waits for a rate waits in a row."""

import asyncio

import pytest

from broker.face.paces import Paces

pytestmark = pytest.mark.anyio


async def test_who_comes_while_others_wait_for_a_rate_waits_behind_them() -> None:
    paces, inside, order = Paces(), list[str](), list[str]()
    go_on = asyncio.Semaphore(0)

    async def take_a_turn(name: str) -> None:
        async with paces.turn("topic"):
            inside.append(name)
            assert inside == [name]
            await go_on.acquire()
            inside.remove(name)
            order.append(name)

    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "third"):
            group.create_task(take_a_turn(name))
        await asyncio.sleep(0)
        go_on.release()
        while not order:
            await asyncio.sleep(0)
        group.create_task(take_a_turn("late"))
        while len(order) < 4:
            await asyncio.sleep(0)
            go_on.release()
    assert order == ["first", "second", "third", "late"]
