"""Rows that are published in parts: each has a cursor of its own, and together they are the batch's."""

import pytest

from executor.errors import CheckpointOrder
from executor.sharding.cursor import Cursor, Position
from protos.errors import InvalidArgument
from tests.support.rows import some_rows


def test_parts_carry_cursors_of_their_own() -> None:
    rows = some_rows()
    part = rows.part(1, 3)
    assert (list(part), part.key(0), part.cursor) == (["b", "c"], "b", Cursor("s", 11, 13, Position("c"), 103))
    assert part.part(0, 1).cursor == Cursor("s", 11, 12, Position("b"), 102)
    assert rows.part(3, 4).cursor == Cursor("s", 13, 14, Position(is_done=True), 104)


def test_neighbours_join_to_the_whole() -> None:
    rows = some_rows()
    assert rows.part(0, 1).cursor.join(rows.part(1, 3).cursor).join(rows.part(3, 4).cursor) == rows.cursor


@pytest.mark.parametrize("following", [(0, 1), (2, 3)])
def test_others_do_not(following: tuple[int, int]) -> None:
    with pytest.raises(CheckpointOrder, match="row 11 is next"):
        some_rows().part(0, 1).cursor.join(some_rows().part(*following).cursor)


@pytest.mark.parametrize("bounds", [(0, 0), (2, 1), (-1, 2), (0, 5)])
def test_there_is_no_part_beyond_the_rows(bounds: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument):
        some_rows().part(*bounds)


def test_a_slice_is_a_plain_sequence() -> None:
    assert some_rows()[1:3] == ["b", "c"]
