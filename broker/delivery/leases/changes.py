"""Changes of leases as compact JSON: runs of offsets, and runs of messages that are held alike."""

from collections.abc import Iterable, Iterator
from typing import TypedDict

from broker.delivery.leases.state import Change, Held
from broker.model import MemberId

StoredRun = tuple[int, int, int, int, str, int, int, str]
"""First offset, count, and the fields of Held."""


class StoredChange(TypedDict):
    """A Change; `done` are pairs of first offset and count."""

    next: int
    done: list[tuple[int, int]]
    held: list[StoredRun]


def to_stored(change: Change) -> StoredChange:
    held: list[StoredRun] = [(first, count, *alike) for first, count, alike in _held_runs(change)]
    return {"next": change.next, "done": [*_runs(change.done)], "held": held}


def from_stored(stored: StoredChange) -> Change:
    """The inverse of `to_stored`."""
    done = [offset for first, count in stored["done"] for offset in range(first, first + count)]
    held = dict[int, Held]()
    for first, count, attempt, until_ms, member, spared, lane, error in stored["held"]:
        alike = Held(attempt, until_ms, MemberId(member), spared, lane, error)
        held.update(dict.fromkeys(range(first, first + count), alike))
    return Change(stored["next"], done, held)


def _runs(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, count) of offsets that follow each other."""
    first = behind = -1
    for offset in offsets:
        if offset != behind:
            if behind > first:
                yield first, behind - first
            first = offset
        behind = offset + 1
    if behind > first:
        yield first, behind - first


def _held_runs(change: Change) -> Iterator[tuple[int, int, Held]]:
    """(first, count, how) of messages that follow each other and are held alike."""
    first, behind, alike = -1, -1, None
    for offset, held in change.held.items():
        if offset != behind or held != alike:
            if alike is not None:
                yield first, behind - first, alike
            first, alike = offset, held
        behind = offset + 1
    if alike is not None:
        yield first, behind - first, alike
