"""The verbs of a store that can lock states, decide, and write what is new."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from executor.limits.rules import (
    Answer,
    Bucket,
    Cap,
    Claim,
    Claiming,
    Hits,
    Rate,
    Taken,
    claimed,
    counted,
    finished,
    released,
    taken,
)

State = Claim | Bucket | Hits
S = TypeVar("S", Claim, Bucket, Hits)
A = TypeVar("A")


class ChangingStore(ABC):
    """Implements Store but for `close`, over one verb of its own."""

    @abstractmethod
    def change(
        self, kind: type[S], names: Iterable[str], decide: Callable[[str, S | None, int], tuple[A, S | None]]
    ) -> Mapping[str, A]:
        """Asks `decide` of each name, with its state and the store's `now` in microseconds, while nobody else changes
        them. It may ask several times, and the last answers count. Raises LimitsUnreachable.
        """

    def claim(self, names: Sequence[str], ask: Claiming) -> Mapping[str, Answer]:
        return self.change(Claim, names, lambda _, old, now: claimed(old, now, ask))

    def finish(self, names: Sequence[str], holder: str, window_us: int) -> Mapping[str, bool]:
        return self.change(Claim, names, lambda _, old, now: finished(old, now, holder, window_us))

    def release(self, names: Sequence[str], holder: str) -> Mapping[str, bool]:
        return self.change(Claim, names, lambda _, old, now: released(old, now, holder))

    def take(self, times: Mapping[str, int], n: int, rate: Rate) -> Mapping[str, Taken]:
        return self.change(Bucket, times, lambda name, old, now: taken(old, now, rate, n, times[name]))

    def count(self, attempts: Mapping[str, int], cap: Cap) -> Mapping[str, int]:
        return self.change(Hits, attempts, lambda name, old, now: counted(old, now, cap, attempts[name]))
