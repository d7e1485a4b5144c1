"""How many per second: counts of the last minute, by second."""

_SECONDS = 60


class Tally:
    """Counts for display; one thread adds, any may ask. Instants are milliseconds since the epoch and may go back."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._first: int | None = None

    def add(self, count: int, now_ms: int) -> None:
        second = now_ms // 1_000
        self._first = second if self._first is None else min(self._first, second)
        self._counts[second] = self._counts.get(second, 0) + count
        if len(self._counts) > _SECONDS:
            self._counts = {known: count for known, count in self._counts.items() if second - known < _SECONDS}

    def per_second(self, now_ms: int) -> float:
        """The mean over the last minute, or since the first count if that is less."""
        if self._first is None:
            return 0.0
        second = now_ms // 1_000
        counted = sum(count for known, count in [*self._counts.items()] if 0 <= second - known < _SECONDS)
        return counted / min(_SECONDS, max(1, second - self._first + 1))
