"""One suite over every implementation of RunLogs."""

from datetime import timedelta

import pytest

from admin.domain.logs import CHUNK_COST, MARKER_ROOM, LogChunk, LogLine, Position
from admin.domain.names import Attempt
from admin.ports import RunLogs
from admin.store.logs import CHUNKS_A_READ
from tests.support.admin_factories import NOW, order
from tests.support.admin_stores import Stores

pytestmark = pytest.mark.anyio

PLENTY = 1 << 30
START = Position()
RUN, OTHER, THIRD = (order(number).id for number in (1, 2, 3))
SECOND = timedelta(seconds=1)


@pytest.fixture
def logs(stores: Stores) -> RunLogs:
    return stores.logs


def chunk(*texts: str, run_id=RUN, shard=0, term=1, dropped=0, number=1) -> LogChunk:
    lines = [LogLine(NOW + index * SECOND, 20, text) for index, text in enumerate(texts)]
    return LogChunk(Attempt(run_id, shard, term), number, lines, dropped)


async def texts(logs: RunLogs, run_id=RUN, *, after=START, shard=None, limit=10_000) -> list[str]:
    return [item.line.text for item in await logs.list(run_id, after=after, shard=shard, limit=limit)]


async def test_lines_come_as_they_were_given_in_the_order_of_their_storing(logs):
    given = chunk("first", "two\nlines\x00 and 推广 \U0001f600", shard=3, term=7, number=2)
    assert await logs.add([given, chunk("elsewhere", run_id=OTHER)], NOW, PLENTY) == set()
    await logs.add([chunk("third")], NOW, PLENTY)
    first, second, third = await logs.list(RUN, after=START, shard=None, limit=9)
    assert [first.line, second.line] == list(given.lines)
    assert (first.attempt, first.number, first.dropped) == (given.attempt, 2, 0)
    assert (third.line.text, third.attempt) == ("third", Attempt(RUN, 0, 1))
    assert START < first.position < second.position < third.position
    assert await texts(logs, OTHER) == ["elsewhere"]
    assert await texts(logs, THIRD) == []


async def test_a_reader_goes_on_behind_any_line_while_more_come(logs):
    await logs.add([chunk(*(f"{n}-{m}" for m in range(3)), dropped=n % 2) for n in range(40)], NOW, PLENTY)
    whole = await texts(logs)
    assert len(whole) == 40 * 3 + 20
    assert CHUNKS_A_READ < 40
    for limit in (1, 7, 64):
        read, after = [], START
        while items := await logs.list(RUN, after=after, shard=None, limit=limit):
            assert len(items) <= limit
            read += [item.line.text for item in items]
            after = Position.parse(str(items[-1].position))
        assert read == whole
    await logs.add([chunk("new")], NOW - SECOND, PLENTY)
    assert await texts(logs, after=after) == ["new"], "whatever the writer's clock says"


async def test_one_shard_is_read_alone(logs):
    await logs.add([chunk(f"{shard}.{n}", shard=shard) for n in range(30) for shard in (0, 1)], NOW, PLENTY)
    assert await texts(logs, shard=1) == [f"1.{n}" for n in range(30)]
    (tenth,) = (await logs.list(RUN, after=START, shard=1, limit=10))[9:]
    assert await texts(logs, shard=1, after=tenth.position, limit=2) == ["1.10", "1.11"]
    assert await texts(logs, shard=2) == []


async def test_dropped_lines_are_told_where_they_would_be(logs):
    await logs.add([chunk("a", "b", dropped=3), chunk("c"), chunk(dropped=1, shard=1)], NOW, PLENTY)
    items = await logs.list(RUN, after=START, shard=None, limit=9)
    assert [(item.line.text, item.dropped) for item in items] == [
        ("a", 0),
        ("b", 0),
        ("3 lines were dropped here", 3),
        ("c", 0),
        ("1 line was dropped here", 1),
    ]
    assert (items[2].line.level, items[2].line.at) == (30, NOW + SECOND)
    assert await texts(logs, after=items[1].position, limit=1) == ["3 lines were dropped here"]


async def test_a_full_run_keeps_only_how_much_was_dropped_and_that_has_an_end_too(logs):
    big = chunk("x" * 1000)
    cap = 2 * big.cost + CHUNK_COST
    assert await logs.add([big, big], NOW, cap) == set()
    full = await logs.add([big, chunk("fits", run_id=OTHER)], NOW, cap)
    assert full == {RUN}
    items = await logs.list(RUN, after=START, shard=None, limit=9)
    assert [item.dropped for item in items] == [0, 0, 1]
    assert await texts(logs, OTHER) == ["fits"]
    endless = [chunk("y", "z", shard=shard) for shard in range(MARKER_ROOM // CHUNK_COST + 9)]
    assert await logs.add(endless, NOW, cap) == {RUN}
    assert len(await logs.list(RUN, after=START, shard=None, limit=100_000)) == 3 + MARKER_ROOM // CHUNK_COST


async def test_what_got_no_line_for_long_is_forgotten_in_small_steps(logs):
    await logs.add([chunk("old") for _ in range(5)], NOW, PLENTY)
    await logs.add([chunk("new", run_id=OTHER)], NOW + 2 * SECOND, PLENTY)
    assert await logs.prune(NOW, PLENTY, 2) == 0, "not older than that"
    before = NOW + SECOND
    assert [await logs.prune(before, PLENTY, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert (await texts(logs), await texts(logs, OTHER)) == ([], ["new"])


async def test_a_reader_of_a_log_that_was_forgotten_goes_on_with_what_comes(logs):
    await logs.add([chunk("a"), chunk("b")], NOW, PLENTY)
    after = (await logs.list(RUN, after=START, shard=None, limit=9))[-1].position
    await logs.prune(NOW + SECOND, PLENTY, 9)
    await logs.add([chunk("c")], NOW + SECOND, PLENTY)
    assert await texts(logs, after=after) == ["c"]


async def test_the_longest_untouched_logs_make_room_for_all(logs):
    for number, run_id in enumerate((OTHER, RUN, THIRD)):
        await logs.add([chunk("x" * 10, run_id=run_id)], NOW + number * SECOND, PLENTY)
    await logs.add([chunk("again", run_id=OTHER)], NOW + 9 * SECOND, PLENTY)
    assert await logs.prune(NOW, PLENTY, 9) == 0
    assert await logs.prune(NOW, 600, 9) == 1
    assert (await texts(logs), len(await texts(logs, OTHER)), len(await texts(logs, THIRD))) == ([], 2, 1)
    assert await logs.prune(NOW, 0, 2) == 2
    assert await logs.prune(NOW, 0, 2) == 1
    assert await logs.prune(NOW, 0, 2) == 0


async def test_the_logs_of_given_runs_are_forgotten(logs):
    await logs.add([chunk("a"), chunk("b"), chunk("c", run_id=OTHER), chunk("d", run_id=THIRD)], NOW, PLENTY)
    assert await logs.cancel([RUN, OTHER], 2) == 2
    assert (await texts(logs), await texts(logs, OTHER)) == ([], ["c"])
    assert await logs.cancel([RUN, OTHER], 2) == 1
    assert (await texts(logs, OTHER), await texts(logs, THIRD)) == ([], ["d"])


async def test_a_forgotten_run_has_all_its_room_again(logs):
    big = chunk("x" * 1000)
    assert await logs.add([big, big], NOW, big.cost) == {RUN}
    while await logs.cancel([RUN], 9):
        pass
    assert await logs.add([big], NOW, big.cost) == set()
