"""Delayed messages as stretches of the commit log: records back to back, for one queue, due at one instant.

A promotion to a million users at nine o'clock is then a few thousand stretches and not a million rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from broker.model import QueueKey

MOST_IN_STRETCH = 1_000  # records; a chunk of what is due is made of whole stretches


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` records at `position` of the log, `size` bytes together, that belong into the queue at `due_ms`.

    `placed_over` is how many queues they were placed over; 0: somebody chose the queue.
    """

    due_ms: int
    position: int
    size: int
    count: int
    key: QueueKey
    placed_over: int = 0

    @property
    def end(self) -> int:
        """The position behind it."""
        return self.position + self.size


def stretches(
    key: QueueKey,
    dues: Sequence[int],
    sizes: Sequence[int],
    position: int,
    placed_over: int = 0,
    *,
    most: int = MOST_IN_STRETCH,
) -> Iterator[Stretch]:
    """Records of one queue that lie back to back from `position` on, cut where the due time changes."""
    at = 0
    for due_ms, same in groupby(dues):
        end = at + sum(1 for _ in same)
        while at < end:
            count = min(most, end - at)
            size = sum(sizes[at : at + count])
            yield Stretch(due_ms, position, size, count, key, placed_over)
            at, position = at + count, position + size


def without(stretch: Stretch, position: int, size: int, before: int) -> Sequence[Stretch]:
    """What is left of a stretch when the record at `position`, behind `before` others, goes."""
    first = replace(stretch, size=position - stretch.position, count=before)
    rest = replace(
        stretch, position=position + size, size=stretch.end - position - size, count=stretch.count - before - 1
    )
    return [part for part in (first, rest) if part.count]


def spans(due: Iterable[Stretch], most_gap: int, most_bytes: int) -> Iterator[Sequence[Stretch]]:
    """By position, those that one read takes together."""
    run: list[Stretch] = []
    for stretch in sorted(due, key=lambda each: each.position):
        if run and (stretch.position - run[-1].end > most_gap or stretch.end - run[0].position > most_bytes):
            yield run
            run = []
        run.append(stretch)
    if run:
        yield run
