"""Pacing: never more than the pace allows, never less than it while there is something to send."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.sharding.pace import BURST_SECONDS, Pacer, Tokens
from protos.errors import InvalidArgument
from tests.support.rows import Clock

paces = st.floats(0.1, 100_000)
units = st.lists(st.integers(0, 3_000), min_size=1, max_size=30)


@given(paces, units, st.lists(st.floats(0, 1), min_size=30, max_size=30))
def test_no_more_leaves_than_the_pace_allows(pace: float, counts: list[int], pauses: list[float]) -> None:
    tokens, now, sent = Tokens(pace, 0.0), 0.0, 0
    for count, pause in zip(counts, pauses, strict=False):
        now += pause
        tokens = tokens.filled(now)
        now += tokens.seconds_until(count)
        tokens = tokens.filled(now, count).taken(count)
        sent += count
        assert sent <= 1 + pace * now + 1e-3


@given(paces, units, st.lists(st.floats(0, BURST_SECONDS), min_size=30, max_size=30))
def test_timers_that_are_late_do_not_slow_it_down(pace: float, counts: list[int], lateness: list[float]) -> None:
    tokens, now, sent, waited = Tokens(pace, 0.0), 0.0, 0, 0.0
    for count, late in zip(counts, lateness, strict=False):
        seconds = tokens.filled(now).seconds_until(count)
        tokens = tokens.filled(now)
        now += seconds + (late if seconds else 0.0)
        waited = late if seconds else waited
        tokens = tokens.filled(now, count).taken(count)
        sent += count
    assert sent >= pace * (now - waited) - tokens.most - 1 - 1e-3


@given(paces, st.floats(0, 1_000))
def test_who_was_idle_sends_no_more_at_once_than_a_short_burst(pace: float, idle: float) -> None:
    tokens = Tokens(pace, 0.0).filled(idle)
    assert tokens.count <= max(1.0, pace * BURST_SECONDS)


def test_without_a_pace_nothing_waits() -> None:
    tokens = Tokens(None, 0.0)
    assert (tokens.seconds_until(10**9), tokens.most, tokens.taken(10**9).count) == (0.0, math.inf, 1.0)


def test_a_change_keeps_what_came_at_the_old_pace() -> None:
    tokens = Tokens(10.0, 0.0, 0.0).paced(100.0, 5.0, wanted=1_000)
    assert (tokens.count, tokens.seconds_until(1_000)) == (50.0, 9.5)


def test_a_lower_pace_does_not_begin_with_the_burst_of_the_higher_one() -> None:
    assert Tokens(10_000.0, 0.0, 1_000.0).paced(10.0, 0.0).count == 1.0


@pytest.mark.parametrize("pace", [0, -1, math.inf, math.nan, True, "5"])
def test_what_is_no_pace_is_refused(pace: float) -> None:
    pacer = Pacer(1.0, Clock())
    with pytest.raises(InvalidArgument, match="a pace is"):
        pacer.pace = pace
    assert pacer.pace == 1.0
    with pytest.raises(InvalidArgument, match="a pace is"):
        Pacer(pace, Clock())


@pytest.mark.anyio
async def test_a_wait_under_way_hears_of_a_change_from_another_thread() -> None:
    pacer, asked = Pacer(0.001, Clock()), asyncio.Event()

    def count(most: float) -> int:
        asked.set()
        return 2

    assert not pacer.take(count)
    asked.clear()
    waiting = asyncio.create_task(pacer.wait(count))
    await asked.wait()
    await asyncio.to_thread(setattr, pacer, "pace", None)
    async with asyncio.timeout(30):
        await waiting


@pytest.mark.anyio
async def test_how_much_goes_at_once_is_asked_again_when_the_pace_changes() -> None:
    clock, told = Clock(), asyncio.Queue[float]()
    pacer = Pacer(500.0, clock)

    def count(most: float) -> int:
        told.put_nowait(most)
        return int(most)

    assert not pacer.take(count)
    waiting = asyncio.create_task(pacer.wait(count))
    assert (await told.get(), await told.get()) == (50.0, 50.0)
    clock.now = 0.05
    pacer.pace = 5.0
    async with asyncio.timeout(30):
        await waiting
    assert told.get_nowait() == 1.0
