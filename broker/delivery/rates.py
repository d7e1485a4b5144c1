"""A token bucket: who takes too much waits until the debt is paid."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Bucket:
    """So many tokens at an instant (in seconds of any clock that never goes back); below 0 they are a debt.

    It holds one second's worth at most. A batch that is larger goes through and leaves a debt.
    """

    rate: float  # tokens a second, above 0
    tokens: float
    at: float

    @classmethod
    def full(cls, rate: float, now: float) -> Self:
        return cls(rate, rate, now)

    def seconds_left(self, now: float) -> float:
        """How long until something may be taken; 0 if it may be now."""
        return max(0.0, -self._tokens(now) / self.rate)

    def take(self, count: int, now: float) -> Self:
        """The bucket with so many less, however many it has."""
        return replace(self, tokens=self._tokens(now) - count, at=now)

    def at_rate(self, rate: float, now: float) -> Self:
        """The bucket from now on filled at another rate; what it owes it still owes."""
        return replace(self, rate=rate, tokens=min(self._tokens(now), rate), at=now)

    def _tokens(self, now: float) -> float:
        return min(self.rate, self.tokens + (now - self.at) * self.rate)
