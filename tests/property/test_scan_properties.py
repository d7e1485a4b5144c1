"""Every row is read exactly once over all shards, from any cursor on, whatever the ids are."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from executor.errors import UnfitKey
from executor.model import Shard
from executor.sharding.cursor import Key, Position, ShardCursor
from executor.sharding.hash import Id, shard_of, stable_hash
from executor.sharding.scan import QUIET_PAGES, Row, owned, read_shard

ids = st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True), st.lists(st.text(), unique=True))
shards = st.integers(1, 20)
sizes = st.integers(1, 9)


@dataclass
class ListSource:
    """A table as a list of keys; a row is its key."""

    stored: list[Key]

    def keys(self, after: Key | None, upper: Key, limit: int) -> list[Key]:
        start = 0 if after is None else bisect_right(self.stored, after)  # type: ignore[type-var]
        return self.stored[start : bisect_right(self.stored, upper)][:limit]  # type: ignore[type-var]

    def rows(self, keys: Sequence[Key]) -> tuple[Sequence[Row], Sequence[Key]]:
        return cast(Sequence[Row], list(keys)), list(keys)


def a_table(keys: Sequence[Key]) -> tuple[ListSource, Key | None]:
    stored = sorted(keys)  # type: ignore[type-var]
    return ListSource(stored), stored[-1] if stored else None


@given(ids, shards, sizes, sizes)
def test_every_row_is_read_exactly_once_over_all_shards(keys: list[Key], total: int, batch: int, page: int) -> None:
    source, upper = a_table(keys)
    read: list[Row] = []
    for index in range(total):
        pieces = list(read_shard(source, upper, Shard(index, total), Position(), batch=batch, page=page))
        rows = [row for piece in pieces for row in piece.rows]
        assert rows == [key for key in source.stored if shard_of(key, total) == index]
        assert all(len(piece.rows) <= batch for piece in pieces)
        assert [piece.position.is_done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        read += rows
    assert sorted(read) == source.stored


@given(ids, shards, sizes, sizes, st.data())
def test_a_scan_goes_on_from_any_cursor_with_exactly_the_rest(
    keys: list[Key], total: int, batch: int, page: int, data: st.DataObject
) -> None:
    source, upper = a_table(keys)
    shard = Shard(data.draw(st.integers(0, total - 1)), total)
    pieces = list(read_shard(source, upper, shard, Position(), batch=batch, page=page))
    cut = data.draw(st.integers(0, len(pieces) - 1))
    kept = ShardCursor(scans={"s": pieces[cut].position})
    begin = ShardCursor.decode(kept.encode()).scans["s"]
    rest = read_shard(source, upper, shard, begin, batch=data.draw(sizes), page=data.draw(sizes))
    assert [row for piece in rest for row in piece.rows] == [row for piece in pieces[cut + 1 :] for row in piece.rows]


@given(ids, shards, sizes, sizes, st.data())
def test_a_scan_goes_on_behind_any_row_with_exactly_the_rest(
    keys: list[Key], total: int, batch: int, page: int, data: st.DataObject
) -> None:
    source, upper = a_table(keys)
    shard = Shard(data.draw(st.integers(0, total - 1)), total)
    pieces = [piece for piece in read_shard(source, upper, shard, Position(), batch=batch, page=page) if piece.rows]
    assume(pieces)
    index = data.draw(st.integers(0, len(pieces) - 1))
    piece = pieces[index]
    cut = data.draw(st.integers(1, len(piece.rows)))
    assert list(piece.keys) == piece.rows
    rest = read_shard(source, upper, shard, piece.part(0, cut).position, batch=batch, page=page)
    expected = [*piece.rows[cut:], *(row for following in pieces[index + 1 :] for row in following.rows)]
    assert [row for piece in rest for row in piece.rows] == expected


def test_rows_that_come_after_the_plan_are_not_of_the_run() -> None:
    source, upper = a_table([1, 2, 3])
    source.stored += [4, 5]
    assert [row for piece in read_shard(source, upper, Shard(0, 1), Position()) for row in piece.rows] == [1, 2, 3]


def test_a_long_stretch_without_rows_still_moves_the_cursor() -> None:
    foreign = [key for key in range(100) if shard_of(key, 2) == 1]
    source, upper = a_table([*foreign[: QUIET_PAGES + 1]])
    pieces = list(read_shard(source, upper, Shard(0, 2), Position(), page=1))
    assert [piece.rows for piece in pieces] == [(), ()]
    assert pieces[0].position == Position(foreign[QUIET_PAGES - 1])


@given(st.lists(st.one_of(st.integers(), st.text()), unique=True), shards)
def test_a_page_is_filtered_as_shard_of_says(keys: list[Key], total: int) -> None:
    for index in range(total):
        assert owned(keys, Shard(index, total)) == [key for key in keys if shard_of(key, total) == index]


@given(st.one_of(st.integers(), st.text(), st.uuids(), st.binary(), st.tuples(st.integers(), st.text())), shards)
def test_every_id_has_one_owner(id: Id, total: int) -> None:
    assert 0 <= stable_hash(id) < 2**32
    assert 0 <= shard_of(id, total) < total


@given(st.one_of(st.booleans(), st.floats(), st.none(), st.lists(st.integers()), st.tuples(st.floats())))
def test_other_types_are_refused(id: Id) -> None:
    with pytest.raises(UnfitKey):
        stable_hash(id)


@pytest.mark.parametrize("key", [1.5, b"x", True])
def test_a_page_with_other_types_is_refused(key: Key) -> None:
    with pytest.raises(UnfitKey):
        owned([1, key], Shard(0, 1))
