"""Cuts an ordered key into parts of equal size, by marks set while walking over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from executor.sharding.keys import Key

FIRST_STEP, LEAST_STEP = 1_024, 16  # keys
MARKS_A_SHARD = 32  # so many at least once the step has grown: a shard is then within 4 % of its share
MIN_MARKS, MAX_MARKS = 1_024, 32_768

FindEnd = Callable[[Key | None, int], tuple[Key, int] | None]
"""From behind a key so many keys on: the last of them, and how many of them count; None: there is no key."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to this key so many rows lie, from the first on."""

    key: Key
    rows: int


def walk(find_end: FindEnd, total: int) -> list[Mark]:
    """Marks at even distances in keys, in constant memory.

    A table in which the first step finds too few is walked again with a smaller one: to begin with that would be four
    times as many questions about a large table.
    """
    most = min(max(2 * MARKS_A_SHARD * total, MIN_MARKS), MAX_MARKS)
    marks = _walk(find_end, FIRST_STEP, most)
    if len(marks) >= most // 2:
        return marks
    return _walk(find_end, max(len(marks) * FIRST_STEP // most, LEAST_STEP), most)


def _walk(find_end: FindEnd, step: int, most: int) -> list[Mark]:
    """When there are too many marks, every other one is kept and the step doubled."""
    marks: list[Mark] = []
    after, rows = None, 0
    while (end := find_end(after, step)) is not None:
        after, rows = end[0], rows + end[1]
        marks.append(Mark(after, rows))
        if len(marks) == most:
            marks, step = marks[1::2], step * 2
    return marks


def bounds(marks: Sequence[Mark], total: int) -> tuple[Key, ...]:
    """The upper ends of all parts but the last, none where there are no rows.

    Each is the mark nearest to its part's share of the rows; where there are fewer marks than parts, some parts have
    the same end as the one before, and so no rows.
    """
    if not marks:
        return ()
    found: list[Key] = []
    number, rows = 0, marks[-1].rows
    for part in range(1, total):
        share = rows * part / total
        while number + 1 < len(marks) and abs(marks[number + 1].rows - share) <= abs(marks[number].rows - share):
            number += 1
        found.append(marks[number].key)
    return tuple(found)
