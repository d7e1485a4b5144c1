"""What becomes of messages, for each state of a promotion and each view on it; and quiet hours."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.marketing.delivery.decisions import (
    BEHIND_MS,
    Decision,
    Defer,
    Deliver,
    Drop,
    Park,
    Unknown,
    View,
    Wait,
    decide,
    quiet_until,
)
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion, QuietHours, Steering, to_ms
from examples.marketing.promotions.states import State
from tests.support.marketing import NOW, order

NOW_MS = to_ms(NOW)
NIGHT = QuietHours(begin=time(22), end=time(8), zone="UTC")  # it is one o'clock
MORNING = datetime(2026, 12, 1, 8, tzinfo=UTC)
SHORT, LONG = timedelta(seconds=0.2), timedelta(seconds=40)


def promotion(state: State, quiet: QuietHours | None = None) -> Promotion:
    steered = order(steering=Steering(quiet=quiet))
    return Promotion(1, 1, steered, state, Phase.REST, 1, 2, "", resumed_at_ms=1, launched_at_ms=1, ended_at_ms=None)


def view(resumed_ms: int | None = None, *, is_parked: bool = False, entered_ms: int = NOW_MS - 5) -> View:
    return View(NOW, is_parked, entered_ms, resumed_ms)


ALL_VIEWS = [
    View(NOW, is_parked, entered_ms, resumed_ms, rest, has_other_channels)
    for is_parked, entered_ms, resumed_ms, rest, has_other_channels in product(
        (False, True),
        (NOW_MS - 100_000, NOW_MS),
        (None, NOW_MS - 50_000, NOW_MS),
        (timedelta(0), SHORT, LONG),
        (False, True),
    )
]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("quiet", [None, NIGHT])
def test_every_view_leads_to_one_decision(state: State, quiet: QuietHours | None) -> None:
    asked = promotion(state, quiet)
    for seen in ALL_VIEWS:
        assert decide(asked, seen) == _wanted(state, quiet, seen), seen


def _wanted(state: State, quiet: QuietHours | None, seen: View) -> Decision:
    """The same as a list of rules, the first that fits."""
    is_resting = state in (State.PAUSED, State.HELD)
    heard_ms = (seen.resumed_ms or 0) + BEHIND_MS
    rules: list[tuple[bool, Decision]] = [
        (state is State.SAVED, Unknown("its promotion is not launched")),
        (state.is_final, Drop()),
        (is_resting and seen.resumed_ms is None, Wait()),
        (is_resting and not seen.is_parked, Park()),
        (is_resting and seen.entered_ms >= heard_ms, Wait()),
        (is_resting, Park(datetime.fromtimestamp(heard_ms / 1000, UTC))),
        (quiet is not None, Defer(MORNING)),
        (not seen.rest, Deliver()),
        (seen.has_other_channels, Defer(NOW + max(seen.rest, timedelta(seconds=10)))),
        (True, Wait(min(seen.rest, timedelta(seconds=1)))),
    ]
    return next(decision for fits, decision in rules if fits)


def test_a_promotion_that_there_is_not_is_unknown() -> None:
    assert decide(None, view()) == Unknown("unknown promotion")


@pytest.mark.parametrize(
    ("early", "decision"), [(timedelta(seconds=1), Deliver()), (timedelta(0), Drop()), (-timedelta(days=1), Drop())]
)
def test_nothing_of_a_promotion_that_is_over_is_delivered(early: timedelta, decision: Decision) -> None:
    running = promotion(State.RUNNING)
    assert decide(running, replace(view(), now=running.order.ends_at - early)) == decision


def test_a_message_that_was_parked_comes_to_rest_behind_all_that_may_have_been_parked_since() -> None:
    paused, seen = promotion(State.PAUSED), view(NOW_MS, is_parked=True)
    parked = decide(paused, seen)
    assert isinstance(parked, Park)
    assert parked.until is not None
    assert decide(paused, replace(seen, now=parked.until, entered_ms=to_ms(parked.until))) == Wait()


@pytest.mark.parametrize(
    ("begin", "end", "now", "until"),
    [
        ("22:00", "08:00", "2026-12-01 21:59", None),
        ("22:00", "08:00", "2026-12-01 22:00", "2026-12-02 08:00"),
        ("22:00", "08:00", "2026-12-02 00:00", "2026-12-02 08:00"),
        ("22:00", "08:00", "2026-12-02 07:59", "2026-12-02 08:00"),
        ("22:00", "08:00", "2026-12-02 08:00", None),
        ("12:00", "14:00", "2026-12-02 11:59", None),
        ("12:00", "14:00", "2026-12-02 12:00", "2026-12-02 14:00"),
        ("12:00", "14:00", "2026-12-02 14:00", None),
        ("00:00", "08:00", "2026-12-02 00:00", "2026-12-02 08:00"),
        ("00:00", "08:00", "2026-12-01 23:59", None),
        ("22:00", "00:00", "2026-12-01 23:59", "2026-12-02 00:00"),
        ("22:00", "00:00", "2026-12-02 00:00", None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu"])
def test_quiet_hours_are_those_of_the_zone(begin: str, end: str, now: str, until: str | None, zone: str) -> None:
    quiet = QuietHours(begin=time.fromisoformat(begin), end=time.fromisoformat(end), zone=zone)
    assert quiet_until(quiet, _at(now, zone)) == (until and _at(until, zone))


def _at(text: str, zone: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


BERLIN = "Europe/Berlin"  # 2026: at two on 29 March it becomes three, at three on 25 October it becomes two


@pytest.mark.parametrize(
    ("begin", "end", "now", "until"),
    [
        ("22:00", "08:00", "2026-03-28T22:00+01:00", "2026-03-29T08:00+02:00"),  # nine hours
        ("22:00", "08:00", "2026-10-24T22:00+02:00", "2026-10-25T08:00+01:00"),  # eleven
        ("22:00", "02:30", "2026-03-29T01:59+01:00", "2026-03-29T03:30+02:00"),  # half past two is left out
        ("22:00", "02:30", "2026-03-29T03:30+02:00", None),
        ("22:00", "02:30", "2026-10-25T02:10+02:00", "2026-10-25T02:30+01:00"),  # it comes twice: until the second
        ("22:00", "02:30", "2026-10-25T02:45+02:00", "2026-10-25T02:30+01:00"),
        ("22:00", "02:30", "2026-10-25T02:30+01:00", None),
        ("02:30", "08:00", "2026-10-25T02:29+02:00", None),
        ("02:30", "08:00", "2026-10-25T02:30+02:00", "2026-10-25T08:00+01:00"),  # from the first
        ("02:30", "08:00", "2026-10-25T02:10+01:00", "2026-10-25T08:00+01:00"),
        ("02:30", "08:00", "2026-03-29T03:29+02:00", None),
        ("02:30", "08:00", "2026-03-29T03:30+02:00", "2026-03-29T08:00+02:00"),
    ],
)
def test_quiet_hours_over_a_change_of_the_clock(begin: str, end: str, now: str, until: str | None) -> None:
    quiet = QuietHours(begin=time.fromisoformat(begin), end=time.fromisoformat(end), zone=BERLIN)
    asked = datetime.fromisoformat(now).astimezone(UTC)
    assert quiet_until(quiet, asked) == (until and datetime.fromisoformat(until))


times = st.integers(0, 24 * 60 - 1).map(lambda minutes: time(*divmod(minutes, 60)))


@given(
    ends=st.tuples(times, times).filter(lambda pair: pair[0] != pair[1]),
    now=st.integers(0, 2 * 365 * 24 * 60).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    zone=st.sampled_from(["UTC", BERLIN, "Australia/Lord_Howe", "Asia/Shanghai", "America/St_Johns"]),
)
def test_what_is_deferred_is_out_of_quiet_hours_when_it_comes_again(
    ends: tuple[time, time], now: datetime, zone: str
) -> None:
    quiet = QuietHours(begin=ends[0], end=ends[1], zone=zone)
    until = quiet_until(quiet, now)
    wall = now.astimezone(ZoneInfo(zone)).time()
    begin, end = ends
    is_quiet = begin <= wall < end if begin < end else wall >= begin or wall < end
    if zone in ("UTC", "Asia/Shanghai"):
        assert (until is not None) == is_quiet
    if until is not None:
        assert now < until <= now + timedelta(hours=25)
        again = quiet_until(quiet, until)
        assert (
            again is None or until.astimezone(ZoneInfo(zone)).utcoffset() != now.astimezone(ZoneInfo(zone)).utcoffset()
        )
