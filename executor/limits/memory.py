"""Limits of one process, kept in its memory: for tests, and where nobody else takes part."""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import cast

from executor.limits.changing import A, ChangingStore, S, State
from executor.limits.names import microseconds_of

PRUNE_EVERY = 10_000  # states written


class MemoryStore(ChangingStore):
    """Implements Store for one process."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._states: dict[tuple[type[State], str], State] = {}
        self._written = 0

    def change(
        self, kind: type[S], names: Iterable[str], decide: Callable[[str, S | None, int], tuple[A, S | None]]
    ) -> Mapping[str, A]:
        answers: dict[str, A] = {}
        with self._lock:
            now = microseconds_of(self._now())
            for name in names:
                old = cast(S | None, self._states.get((kind, name)))
                answers[name], new = decide(name, old if old and old.expires_at_us > now else None, now)
                if new is not None:
                    self._states[kind, name] = new
                    self._written += 1
            if self._written >= PRUNE_EVERY:
                self._written = 0
                self._states = {key: state for key, state in self._states.items() if state.expires_at_us > now}
        return answers

    def close(self) -> None:
        """Forgets nothing: the same Limits may be used again."""
