"""Cuts an ordered key into parts of equal size, by marks set while walking over it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from executor.sharding.keys import Key

FIRST_STEP = 1_024  # keys
MARKS_A_SHARD = 32  # so many at least once the step has grown: a shard is then within 4 % of its share
MIN_MARKS, MAX_MARKS = 1_024, 32_768
NEAR_ENOUGH = 1 / 16  # of a share: marks on both sides of a part's end that are farther apart get others between them

FindEnd = Callable[[Key | None, int, Key], tuple[Key, int] | None]
"""From behind a key so many keys on, but not beyond another one: the last of them, and how many of them count; None:
there is no key."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to this key so many rows lie, from the first on."""

    key: Key
    rows: int


def walk(find_end: FindEnd, upper: Key, total: int) -> list[Mark]:
    """Marks up to a key, in constant memory, at even distances in keys: when there are too many, every other one is
    kept and the step doubled. Where counted rows crowd about the end of a part, more are set."""
    most = min(max(2 * MARKS_A_SHARD * total, MIN_MARKS), MAX_MARKS)
    marks: list[Mark] = []
    step, after, rows = FIRST_STEP, None, 0
    while (end := find_end(after, step, upper)) is not None:
        after, rows = end[0], rows + end[1]
        marks.append(Mark(after, rows))
        if len(marks) == most:
            marks, step = marks[1::2], step * 2
    return list(_Refining(find_end, total, rows).refine(marks, step))


@dataclass(frozen=True, slots=True)
class _Refining:
    find_end: FindEnd
    total: int
    rows: int

    def refine(self, marks: Sequence[Mark], step: int) -> Iterator[Mark]:
        """The marks, which are so many keys apart, with those between them that the ends of parts need."""
        after, rows = None, 0
        for mark in marks:
            yield from self._up_to(mark, after, rows, step)
            after, rows = mark.key, mark.rows

    def _up_to(self, mark: Mark, after: Key | None, rows: int, step: int) -> Iterator[Mark]:
        crowd, enough = mark.rows - rows, max(1.0, self.rows / self.total * NEAR_ENOUGH)
        if step > 1 and crowd > enough and self._is_end_between(rows, mark.rows):
            step = max(1, min(step // 2, int(step * enough / crowd)))
            while (end := self.find_end(after, step, mark.key)) is not None and end[0] != mark.key:
                found = Mark(end[0], rows + end[1])
                yield from self._up_to(found, after, rows, step)
                after, rows = found.key, found.rows
            yield from self._up_to(mark, after, rows, step)
        else:
            yield mark

    def _is_end_between(self, lower: int, upper: int) -> bool:
        part = lower * self.total // self.rows + 1
        return part * self.rows < upper * self.total


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
