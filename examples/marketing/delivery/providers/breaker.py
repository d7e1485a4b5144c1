"""A circuit breaker: a provider that fails is left alone for a while, then one call shows whether it is back.

The rules are a table over frozen states, with the time passed in; docs/marketing.md draws it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

MOST_FAILURES = 5
REST = timedelta(seconds=5)
PROBE = timedelta(seconds=30)
"""After so long a call that was to show it is given up."""


class Stand(Enum):
    CLOSED = auto()  # calls go through
    OPEN = auto()  # none does
    HALF_OPEN = auto()  # one is under way


class Event(Enum):
    ASKED = auto()  # somebody wants to call
    ANSWERED = auto()  # a call came through, whatever the answer was
    FAILED = auto()  # none came back, or the provider said that it is broken
    TOLD_TO_WAIT = auto()  # it said for how long


_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Circuit:
    """`failures` in a row; `until` is when the next call may go where it is not closed."""

    stand: Stand = Stand.CLOSED
    failures: int = 0
    until: datetime = _EVER

    def rest(self, now: datetime) -> timedelta:
        """How long no call may go; zero: one may."""
        return timedelta(0) if self.stand is Stand.CLOSED else max(timedelta(0), self.until - now)


CLOSED = Circuit()


def step(circuit: Circuit, event: Event, now: datetime, wait: timedelta = REST) -> Circuit:
    """The circuit behind an event. One that is asked lets the call through where its `rest` is zero."""
    match circuit.stand, event:
        case Stand.OPEN, Event.TOLD_TO_WAIT:
            return Circuit(Stand.OPEN, circuit.failures, max(circuit.until, now + wait))
        case _, Event.TOLD_TO_WAIT:
            return Circuit(Stand.OPEN, circuit.failures, now + wait)
        case Stand.CLOSED, Event.FAILED:
            failures = circuit.failures + 1
            is_open = failures >= MOST_FAILURES
            return Circuit(Stand.OPEN, failures, now + wait) if is_open else Circuit(failures=failures)
        case Stand.HALF_OPEN, Event.FAILED:
            return Circuit(Stand.OPEN, circuit.failures + 1, now + wait)
        case ((Stand.CLOSED | Stand.HALF_OPEN), Event.ANSWERED):
            return CLOSED
        case ((Stand.OPEN | Stand.HALF_OPEN), Event.ASKED) if not circuit.rest(now):
            return Circuit(Stand.HALF_OPEN, circuit.failures, now + PROBE)
        case _:  # what was under way when it opened says nothing about now
            return circuit


class Breaker:
    """The circuit of one provider, for all threads of this process."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._circuit = CLOSED

    def rest(self, now: datetime) -> timedelta:
        return self._circuit.rest(now)

    def ask(self) -> timedelta:
        """Zero where the caller may call, and is to tell how it went; else how long to wait."""
        with self._lock:
            now = self._clock()
            rest = self._circuit.rest(now)
            self._circuit = step(self._circuit, Event.ASKED, now)
            return rest

    def tell(self, event: Event, wait: timedelta = REST) -> None:
        with self._lock:
            self._circuit = step(self._circuit, event, self._clock(), wait)
