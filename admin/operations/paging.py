"""Pages that a key leads on from, so that they stay right while rows come and go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items, and the token of the next page ("" on the last)."""

    items: Sequence[T]
    next_token: str


def page_of(found: Sequence[T], size: int, key: Callable[[T], str]) -> Page[T]:
    """The page of `size` items out of one more that was asked for."""
    items = found[:size]
    return Page(items, key(items[-1]) if len(found) > size else "")
