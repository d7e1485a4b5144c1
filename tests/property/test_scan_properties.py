"""Every row is read exactly once over all shards, from any cursor on, whatever the ids, the strategy and the pages."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.errors import UnfitKey
from executor.model import Shard
from executor.sharding.cursor import Position, ShardCursor
from executor.sharding.hash import Id, shard_of, shards_of, stable_hash
from executor.sharding.keys import Key, key_from_json, key_to_json, parts_of
from executor.sharding.plan import Bucket, ScanPlan
from executor.sharding.quantiles import FIRST_STEP, bounds, walk
from executor.sharding.scan import PAGE_SECONDS, QUIET_PAGES, Piece, next_size, read_shard
from executor.sharding.table.pages import pages_of
from executor.sharding.table.planning import ask, make_plan
from executor.sharding.table.source import TableSource

BUCKETS = 24

integers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.one_of(
    st.lists(integers, unique=True),
    st.lists(texts, unique=True),
    st.lists(st.binary(max_size=8), unique=True),
    st.lists(st.uuids(), unique=True),
    st.lists(st.tuples(st.integers(0, 3), texts), unique=True),
)
shards = st.integers(1, 9)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))  # of batch and page


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask for a scan."""

    strategy: str
    bucket: Bucket | None = None
    is_filtered: bool = False
    is_spelt_out: bool = False  # keys are compared as MariaDB is asked to


ways = st.builds(
    lambda strategy, is_filtered, is_spelt_out: Way(*strategy, is_filtered, is_spelt_out),
    st.sampled_from([("hash", None), ("ranges", None), ("buckets", Bucket("free", BUCKETS))]),
    st.booleans(),
    st.booleans(),
)


@contextmanager
def a_table(stored: Sequence[Key]) -> Iterator[tuple[sa.Engine, sa.Table]]:
    """In memory; `even` is 1 for every second row, `own` the hash's bucket, `free` one of chance."""
    engine = sa.create_engine("sqlite://")
    kinds = {int: sa.BigInteger(), str: sa.Text(), bytes: sa.LargeBinary(), uuid.UUID: sa.Uuid()}
    parts = parts_of(stored[0]) if stored else (0,)
    key = [sa.Column(f"k{i}", kinds[type(part)], primary_key=True) for i, part in enumerate(parts)]
    rest = [sa.Column(name, sa.Integer, nullable=False) for name in ("even", "own", "free")]
    table = sa.Table("users", sa.MetaData(), *key, *rest)
    table.create(engine)
    rows = [
        {f"k{i}": part for i, part in enumerate(parts_of(key))}
        | {"even": n % 2, "own": stable_hash(key) % BUCKETS, "free": n * 7 % BUCKETS}  # type: ignore[arg-type]
        for n, key in enumerate(stored)
    ]
    if rows:
        with engine.begin() as connection:
            connection.execute(sa.insert(table), rows)
    try:
        yield engine, table
    finally:
        engine.dispose()


def a_source(engine: sa.Engine, table: sa.Table, way: Way) -> TableSource:
    source = TableSource(engine, table, where=table.c.even == 1 if way.is_filtered else None)
    if way.is_spelt_out:
        source.keyset._has_row_values = False
    return source


def read(source: TableSource, plan: ScanPlan, shard: Shard, begin: Position, sized: tuple[int, int]) -> list[Piece]:
    """With batches and pages of these sizes; the latter stay as small as they are asked for."""
    clock: Callable[[], float] = count(0, PAGE_SECONDS).__next__
    batch, page = sized
    pages, stretches = pages_of(source, plan, shard), plan.stretches(shard)
    return list(read_shard(pages, stretches, begin, batch=batch, monotonic=clock, first_page=page))


@settings(deadline=None)
@given(keys, ways, shards, sizes)
def test_every_row_is_read_exactly_once_over_all_shards(
    stored: list[Key], way: Way, total: int, sized: tuple[int, int]
) -> None:
    with a_table(stored) as (engine, table):
        source = a_source(engine, table, way)
        plan = make_plan(source, ask(source, total, way.strategy, way.bucket))  # type: ignore[arg-type]
        assert ScanPlan.decode(plan.encode()) == plan
        found: list[Key] = []
        for index in range(total):
            pieces = read(source, plan, Shard(index, total), Position(), sized)
            mine = [key for piece in pieces for key in piece.keys]
            if way.strategy == "hash":
                assert mine == sorted(key for key in mine if shard_of(key, total) == index)  # type: ignore
            assert all(len(piece.rows) == len(piece.keys) <= sized[0] for piece in pieces)
            assert [piece.position.is_done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
            found += mine
        wanted = stored[1::2] if way.is_filtered else stored
        assert sorted(found) == sorted(wanted)  # type: ignore[type-var]


@settings(deadline=None)
@given(st.lists(integers, unique=True), st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]), sizes)
def test_an_indexed_bucket_finds_what_the_hash_finds(stored: list[Key], total: int, sized: tuple[int, int]) -> None:
    with a_table(stored) as (engine, table):
        source = a_source(engine, table, Way("hash"))
        plan = make_plan(source, ask(source, total, "hash", Bucket("own", BUCKETS)))
        for index in range(total):
            pieces = read(source, plan, Shard(index, total), Position(), sized)
            mine = [key for piece in pieces for key in piece.keys]
            assert sorted(mine) == sorted(key for key in stored if shard_of(key, total) == index)  # type: ignore


@settings(deadline=None)
@given(keys, ways, shards, sizes, st.data())
def test_a_scan_goes_on_from_any_row_with_exactly_the_rest(
    stored: list[Key], way: Way, total: int, sized: tuple[int, int], data: st.DataObject
) -> None:
    with a_table(stored) as (engine, table):
        source = a_source(engine, table, way)
        plan = make_plan(source, ask(source, total, way.strategy, way.bucket))  # type: ignore[arg-type]
        shard = Shard(data.draw(st.integers(0, total - 1)), total)
        pieces = read(source, plan, shard, Position(), sized)
        cut = data.draw(st.integers(0, len(pieces) - 1))
        row = data.draw(st.integers(1, max(len(pieces[cut].rows), 1)))
        position = pieces[cut].behind(row - 1) if pieces[cut].rows else pieces[cut].position
        kept = ShardCursor(scans={"s": position})
        begin = ShardCursor.decode(kept.encode()).scans["s"]
        rest = read(source, plan, shard, begin, data.draw(sizes))
        behind = [*pieces[cut].rows[row:], *(row for piece in pieces[cut + 1 :] for row in piece.rows)]
        assert [row for piece in rest for row in piece.rows] == behind


def test_rows_that_come_after_the_plan_are_not_of_the_run() -> None:
    for way in (Way("hash"), Way("ranges"), Way("buckets", Bucket("free", BUCKETS))):
        with a_table([1, 2, 3]) as (engine, table):
            source = a_source(engine, table, way)
            plan = make_plan(source, ask(source, 2, way.strategy, way.bucket))  # type: ignore[arg-type]
            with engine.begin() as connection:
                connection.execute(sa.insert(table), {"k0": 4, "even": 0, "own": 0, "free": 0})
            found = [read(source, plan, Shard(index, 2), Position(), (9, 9)) for index in range(2)]
            assert sorted(key for pieces in found for piece in pieces for key in piece.keys) == [1, 2, 3]  # type: ignore


def test_a_long_stretch_without_rows_still_moves_the_cursor() -> None:
    foreign = [key for key in range(100) if shard_of(key, 2) == 1][: QUIET_PAGES + 1]
    with a_table(foreign) as (engine, table):
        source = a_source(engine, table, Way("hash"))
        plan = make_plan(source, ask(source, 2))
        pieces = read(source, plan, Shard(0, 2), Position(), (9, 1))
    assert [len(piece.rows) for piece in pieces] == [0, 0]
    assert pieces[0].position == Position(foreign[QUIET_PAGES - 1])


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 300)), max_size=5), shards)
def test_ranges_are_of_equal_size_wherever_the_rows_lie(crowds: list[tuple[int, int]], total: int) -> None:
    """Keys that do not count, and then some that do, again and again."""
    counts = [is_counted for idle, busy in crowds for is_counted in [0] * idle + [1] * busy]
    asked = 0

    def find_end(after: Key | None, limit: int, upper: Key) -> tuple[Key, int] | None:
        nonlocal asked
        asked += 1
        begin = 0 if after is None else int(str(after))
        end = min(begin + limit, int(str(upper)))
        return (end, sum(counts[begin:end])) if end > begin else None

    ends = bounds(walk(find_end, len(counts), total), total)
    found = [sum(counts[begin:end]) for begin, end in pairwise([0, *map(int, map(str, ends)), len(counts)])]
    assert sum(found) == sum(counts)
    assert not ends or len(found) == total
    assert not ends or max(found) - min(found) <= max(2, 0.2 * max(found))
    assert asked <= 2 * len(counts) / FIRST_STEP + 100 * total


@pytest.mark.parametrize(("rows", "questions"), [(20_000, 1_200), (500_000, 1_600), (1_000_000, 1_100), (10**7, 2_800)])
def test_a_plan_by_ranges_asks_few_questions(rows: int, questions: int) -> None:
    asked: list[int] = []

    def find_end(after: Key | None, limit: int, upper: Key) -> tuple[Key, int] | None:
        asked.append(limit)
        begin = 0 if after is None else int(str(after))
        end = min(begin + limit, int(str(upper)))
        return (end, end - begin) if end > begin else None

    ends = [0, *(int(str(bound)) for bound in bounds(walk(find_end, rows, 8), 8)), rows]
    found = [end - begin for begin, end in pairwise(ends)]
    assert max(found) <= 1.1 * min(found)
    assert len(asked) <= questions


@given(st.integers(1, 10**6), st.floats(0, 10), st.integers(1, 10**6))
def test_a_page_grows_and_shrinks_within_its_bounds(size: int, seconds: float, most: int) -> None:
    following = next_size(min(size, most), seconds, most)
    assert 1 <= following <= most


@given(keys)
def test_a_key_is_kept_as_json(stored: list[Key]) -> None:
    assert [key_from_json(key_to_json(key)) for key in stored] == stored


@given(st.lists(st.one_of(st.integers(), texts, st.binary(), st.tuples(st.integers(), texts)), unique=True), shards)
def test_a_page_is_hashed_as_shard_of_says(ids: list[Key], total: int) -> None:
    assert shards_of(ids, total) == [shard_of(key, total) for key in ids]  # type: ignore[arg-type]


@given(st.one_of(st.integers(), st.text(), st.uuids(), st.binary(), st.tuples(st.integers(), st.text())), shards)
def test_every_id_has_one_owner(id: Id, total: int) -> None:
    assert 0 <= stable_hash(id) < 2**32
    assert 0 <= shard_of(id, total) < total


@given(st.one_of(st.booleans(), st.floats(), st.none(), st.lists(st.integers()), st.tuples(st.floats())))
def test_other_types_are_refused(id: Id) -> None:
    with pytest.raises(UnfitKey):
        stable_hash(id)
    with pytest.raises(UnfitKey):
        shards_of([1, id], 4)  # type: ignore[list-item]
