"""What a producer has without an answer is bounded, and waits in order."""

import asyncio

import pytest

from broker.client.publishing.window import Window

pytestmark = pytest.mark.anyio


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_so_many_publishes_and_no_more() -> None:
    window = Window(2, 100)
    await window.acquire(1)
    await window.acquire(1)
    third = asyncio.create_task(window.acquire(1))
    await turn()
    assert not third.done()
    window.release(1)
    await third


async def test_so_many_bytes_and_no_more() -> None:
    window = Window(9, 100)
    await window.acquire(60)
    await window.acquire(40)
    third = asyncio.create_task(window.acquire(50))
    await turn()
    window.release(40)
    await turn()
    assert not third.done()
    window.release(60)
    await third


async def test_one_that_is_larger_goes_alone() -> None:
    window = Window(9, 100)
    await window.acquire(1_000)
    second = asyncio.create_task(window.acquire(1))
    await turn()
    assert not second.done()
    window.release(1_000)
    await second


async def test_a_small_one_does_not_overtake_a_large_one() -> None:
    window, order = Window(9, 100), list[int]()

    async def acquire(size: int) -> None:
        await window.acquire(size)
        order.append(size)

    await window.acquire(90)
    tasks = [asyncio.create_task(acquire(size)) for size in (50, 5)]
    await turn()
    assert order == []
    window.release(90)
    await asyncio.gather(*tasks)
    assert order == [50, 5]


async def test_who_stops_waiting_makes_room_for_those_behind() -> None:
    window = Window(9, 100)
    await window.acquire(90)
    large, small = asyncio.create_task(window.acquire(50)), asyncio.create_task(window.acquire(5))
    await turn()
    large.cancel()
    await small
    assert large.cancelled()


async def test_who_stops_waiting_as_its_turn_comes_gives_it_back() -> None:
    window = Window(1, 100)
    await window.acquire(1)
    second, third = asyncio.create_task(window.acquire(1)), asyncio.create_task(window.acquire(1))
    await turn()
    window.release(1)
    second.cancel()
    await third
    assert second.cancelled()
