import asyncio

import pytest

from broker.delivery.pacing import FAR_BEHIND, Pacing

pytestmark = pytest.mark.anyio


class Reads:
    """Two reads, of which each ends when it is told to, and rests that end at once."""

    def __init__(self, is_publishing: bool) -> None:
        self.begun: list[int] = []
        self.ends = asyncio.Event()
        self.rests: list[float] = []
        self._pacing = Pacing(lambda: is_publishing, self._sleep)

    async def read(self, number: int, behind: int) -> None:
        async with self._pacing.turn(behind):
            self.begun.append(number)
            await self.ends.wait()

    async def _sleep(self, seconds: float) -> None:
        self.rests.append(seconds)


async def two_reads(reads: Reads, behind: int) -> list[int]:
    """Which of the two had begun before one of them ended."""
    tasks = [asyncio.create_task(reads.read(number, behind)) for number in (1, 2)]
    for _ in range(10):
        await asyncio.sleep(0)
    begun = [*reads.begun]
    reads.ends.set()
    await asyncio.gather(*tasks)
    return begun


async def test_reads_far_behind_take_turns_and_rest_while_somebody_publishes() -> None:
    reads = Reads(is_publishing=True)
    assert await two_reads(reads, FAR_BEHIND) == [1]
    assert (reads.begun, len(reads.rests)) == ([1, 2], 1)


async def test_what_was_read_does_not_wait_for_the_rest_behind_it() -> None:
    has_rest = asyncio.Event()

    async def rest(_: float) -> None:
        has_rest.set()
        await asyncio.Event().wait()

    pacing = Pacing(lambda: True, rest)
    async with asyncio.timeout(5):
        async with pacing.turn(FAR_BEHIND):
            await asyncio.sleep(0.001)  # the read
        following = asyncio.create_task(pacing.turn(FAR_BEHIND).__aenter__())
        await has_rest.wait()
    following.cancel()


@pytest.mark.parametrize(("is_publishing", "behind"), [(False, FAR_BEHIND), (True, FAR_BEHIND - 1)])
async def test_other_reads_go_side_by_side_and_never_rest(is_publishing: bool, behind: int) -> None:
    reads = Reads(is_publishing)
    assert await two_reads(reads, behind) == [1, 2]
    assert reads.rests == []


async def test_a_read_that_fails_gives_its_turn_away() -> None:
    pacing = Pacing(lambda: True)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(30), pacing.turn(FAR_BEHIND):
                raise ZeroDivisionError
