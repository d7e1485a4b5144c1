"""The circuit breaker's table: every stand and every event."""

from datetime import timedelta

import pytest

from examples.marketing.delivery.providers.breaker import (
    CLOSED,
    MOST_FAILURES,
    PROBE,
    REST,
    Breaker,
    Circuit,
    Event,
    Stand,
    step,
)
from tests.support.marketing import NOW, Clock

SOON, WAIT = timedelta(seconds=2), timedelta(seconds=60)
OPEN = Circuit(Stand.OPEN, MOST_FAILURES, NOW + SOON)
DUE = Circuit(Stand.OPEN, MOST_FAILURES, NOW)
PROBED = Circuit(Stand.HALF_OPEN, MOST_FAILURES, NOW + SOON)
LOST = Circuit(Stand.HALF_OPEN, MOST_FAILURES, NOW)
"""Half open, and the call that was to show it never came back."""
FAILING = Circuit(failures=MOST_FAILURES - 1)
SHUT = Circuit(Stand.OPEN, MOST_FAILURES, NOW + REST)
SHUT_AGAIN = Circuit(Stand.OPEN, MOST_FAILURES + 1, NOW + REST)
PROBING = Circuit(Stand.HALF_OPEN, MOST_FAILURES, NOW + PROBE)

TABLE = {
    (CLOSED, Event.ASKED): CLOSED,
    (CLOSED, Event.ANSWERED): CLOSED,
    (CLOSED, Event.FAILED): Circuit(failures=1),
    (CLOSED, Event.TOLD_TO_WAIT): Circuit(Stand.OPEN, 0, NOW + WAIT),
    (FAILING, Event.ASKED): FAILING,
    (FAILING, Event.ANSWERED): CLOSED,
    (FAILING, Event.FAILED): SHUT,
    (FAILING, Event.TOLD_TO_WAIT): Circuit(Stand.OPEN, MOST_FAILURES - 1, NOW + WAIT),
    (OPEN, Event.ASKED): OPEN,
    (OPEN, Event.ANSWERED): OPEN,
    (OPEN, Event.FAILED): OPEN,
    (OPEN, Event.TOLD_TO_WAIT): Circuit(Stand.OPEN, MOST_FAILURES, NOW + WAIT),
    (DUE, Event.ASKED): PROBING,
    (DUE, Event.ANSWERED): DUE,
    (DUE, Event.FAILED): DUE,
    (DUE, Event.TOLD_TO_WAIT): Circuit(Stand.OPEN, MOST_FAILURES, NOW + WAIT),
    (PROBED, Event.ASKED): PROBED,
    (PROBED, Event.ANSWERED): CLOSED,
    (PROBED, Event.FAILED): SHUT_AGAIN,
    (PROBED, Event.TOLD_TO_WAIT): Circuit(Stand.OPEN, MOST_FAILURES, NOW + WAIT),
    (LOST, Event.ASKED): PROBING,
    (LOST, Event.ANSWERED): CLOSED,
    (LOST, Event.FAILED): SHUT_AGAIN,
    (LOST, Event.TOLD_TO_WAIT): Circuit(Stand.OPEN, MOST_FAILURES, NOW + WAIT),
}


@pytest.mark.parametrize("circuit", [CLOSED, FAILING, OPEN, DUE, PROBED, LOST])
@pytest.mark.parametrize("event", Event)
def test_each_event_leads_where_the_table_says(circuit: Circuit, event: Event) -> None:
    wait = WAIT if event is Event.TOLD_TO_WAIT else REST
    assert step(circuit, event, NOW, wait) == TABLE[circuit, event]


def test_a_provider_that_says_less_than_before_is_left_alone_as_long_as_it_said_first() -> None:
    far = Circuit(Stand.OPEN, 0, NOW + 2 * WAIT)
    assert step(far, Event.TOLD_TO_WAIT, NOW, WAIT) == far


def test_after_its_rest_one_call_goes_and_the_others_when_it_came_through() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(MOST_FAILURES):
        assert not breaker.ask()
        breaker.tell(Event.FAILED)
    assert breaker.ask() == breaker.rest(clock()) == REST
    clock.now += REST
    assert not breaker.rest(clock())
    assert [bool(breaker.ask()) for _ in range(3)] == [False, True, True]
    breaker.tell(Event.ANSWERED)
    assert [bool(breaker.ask()) for _ in range(3)] == [False, False, False]
