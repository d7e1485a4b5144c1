"""Fire times against a walk over every minute of days on which clocks change, and texts that are no expressions."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin.domain.errors import InvalidTrigger
from admin.domain.trigger import fire_times, next_fire, preview, trigger_of
from tests.support.quartz.expressions import MONTHS, expression_of
from tests.support.quartz.plain import has, names

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CHANGES = st.sampled_from(
    [
        ("UTC", "2026-03-08"),
        ("America/New_York", "2026-03-08"),
        ("America/New_York", "2026-11-01"),
        ("America/St_Johns", "2027-03-14"),
        ("America/St_Johns", "2027-11-07"),
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2028-10-29"),
        ("Europe/Dublin", "2026-10-25"),
        ("Australia/Lord_Howe", "2026-10-04"),
        ("Australia/Lord_Howe", "2027-04-04"),
        ("Antarctica/Troll", "2026-03-29"),
        ("Antarctica/Casey", "2020-10-04"),
        ("Africa/Cairo", "2026-04-24"),
        ("America/Asuncion", "2023-10-01"),
        ("Pacific/Apia", "2011-12-30"),
    ]
)
EXPRESSIONS = st.one_of(
    st.randoms(use_true_random=False).map(expression_of).map(lambda text: "0 " + text.split(" ", 1)[1]),
    st.builds(
        "0 {} {} * * ?".format,
        st.sampled_from(["*/15", "30", "10,40", "*", "5-50/9"]),
        st.sampled_from(["0-3", "1", "2", "23-2", "*", "*/2"]),
    ),
)
TRIGGERS = st.builds(
    lambda skipped, repeated: {"skipped": skipped, "repeated": repeated},
    st.sampled_from(["skip", "shift"]),
    st.sampled_from(["once", "twice"]),
)


def _walked(
    expression: str, place: ZoneInfo, start: datetime, end: datetime, policies: dict[str, str]
) -> set[datetime]:
    """Every wall minute is asked for by name, and what it is in UTC follows from the policies."""
    found: set[datetime] = set()
    wall = (start.astimezone(place) - 2 * DAY).replace(tzinfo=None)
    while wall < end.astimezone(place).replace(tzinfo=None) + DAY:
        if names(expression, wall):
            found |= _instants(wall.replace(tzinfo=place), policies)
        wall += MINUTE
    return {each for each in found if start < each < end}


def _instants(wall: datetime, policies: dict[str, str]) -> set[datetime]:
    first, second = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first > second:  # no clock shows it
        return {first} if policies["skipped"] == "shift" else set()
    return {second} if policies["repeated"] == "once" else {first, second}


@settings(deadline=None)
@given(CHANGES, EXPRESSIONS, TRIGGERS, st.integers(-1200, 900))
def test_fires_are_those_of_a_walk_over_every_wall_minute(change, expression, policies, minutes):
    zone, day = change
    place = ZoneInfo(zone)
    start = datetime.fromisoformat(day).replace(tzinfo=place).astimezone(UTC) + minutes * MINUTE
    end = start + DAY
    walked = sorted(_walked(expression, place, start, end, policies))
    trigger = trigger_of({"cron": expression, "time_zone": zone, **policies})
    found = preview(trigger, start, len(walked) + 1)
    assert found[: len(walked)] == walked
    assert all(fire >= end for fire in found[len(walked) :])
    assert all(a < b for a, b in pairwise(found))


@settings(deadline=None)
@given(CHANGES, EXPRESSIONS, TRIGGERS, st.integers(0, 3 * 86_400_000))
def test_the_next_fire_is_the_same_from_wherever_before_it_one_asks(change, expression, policies, back_ms):
    zone, day = change
    trigger = trigger_of({"cron": expression, "time_zone": zone, **policies})
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - DAY
    fire = next_fire(trigger, start)
    if fire is not None:
        later = max(start, fire - timedelta(milliseconds=1 + back_ms))
        assert next_fire(trigger, later) == fire
        assert fire > start


UNIX = st.tuples(
    st.sampled_from(["*/15", "7", "0,59", "10-40/3", "*"]),
    st.sampled_from(["*", "1-3", "*/6", "0,23"]),
    st.sampled_from(["*", "*/3", "13", "1-7", "28-31", "1,15"]),
    st.sampled_from(["*", "3", "2-4", "*/5", "MAR,nov"]),
    st.sampled_from(["*", "0", "7", "1-5", "5-7", "MON,fri", "*/2"]),
)


def _unix_names(fields: tuple[str, ...], wall: datetime) -> bool:
    """Where both are given, a day of the month or a day of the week is enough."""
    minute, hour, day, month, weekday = (field.upper() for field in fields)
    if not (has(minute, wall.minute, 0, 59) and has(hour, wall.hour, 0, 23) and has(month, wall.month, 1, 12, MONTHS)):
        return False
    is_day = has(day, wall.day, 1, 31)
    days = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
    texts = ",".join(str(days.index(item)) if item in days else item for item in weekday.split(","))
    is_weekday = any(has(texts, number, 0, 7) for number in {wall.isoweekday(), wall.isoweekday() % 7})
    is_either = not day.startswith("*") and not weekday.startswith("*")
    return is_day or is_weekday if is_either else is_day and is_weekday


@settings(deadline=None)
@given(UNIX, st.integers(0, 700), st.sampled_from(["UTC", "Asia/Kathmandu"]))
def test_unix_fires_are_those_of_a_walk_over_every_minute(fields, days, zone):
    start = datetime(2026, 1, 1, 11, 59, 30, tzinfo=UTC) + days * DAY
    minutes = (start + MINUTE / 2 + n * MINUTE for n in range(3 * 1440))
    walked = [at for at in minutes if _unix_names(fields, at.astimezone(ZoneInfo(zone)))]
    found = fire_times(" ".join(fields), zone=zone, after=start, count=len(walked) + 1, dialect="unix")
    assert found[: len(walked)] == walked
    assert all(fire >= start + 3 * DAY for fire in found[len(walked) :])


RULES = st.one_of(
    st.builds(lambda text: {"cron": text}, EXPRESSIONS),
    st.sampled_from(["1m", "7m", "1h", "25h"]).map(lambda period: {"every": period}),
)


@settings(deadline=None)
@given(st.lists(RULES, min_size=1, max_size=3), st.integers(0, 10**6))
def test_any_is_the_union_and_all_the_intersection(rules, minutes):
    start = datetime(2026, 3, 7, tzinfo=UTC) + minutes * MINUTE
    end = start + DAY
    sets = [{fire for fire in preview(trigger_of(rule), start, 1441) if fire < end} for rule in rules]
    for kind, wanted in (("any", set.union(*sets)), ("all", set.intersection(*sets))):
        trigger = trigger_of({kind: rules, "end": (end - MINUTE / 2).isoformat()})
        assert preview(trigger, start, 1441) == sorted(wanted)


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="0123456789*/,-?LW# MONFRIJANlw\t\u0661", max_size=60),
    st.lists(st.text(alphabet="0159*/,-?LW#MONFRI", min_size=1, max_size=5), min_size=5, max_size=7).map(" ".join),
)


@settings(deadline=None, max_examples=500)
@given(TEXTS, st.sampled_from(["quartz", "unix"]))
def test_a_text_is_an_expression_or_refused_at_a_position_of_it(text, dialect):
    try:
        found = fire_times(text, after=datetime(2026, 11, 22, tzinfo=UTC), count=3, dialect=dialect)
    except InvalidTrigger as error:
        found, refused = [], error
    else:
        refused = None
    assert refused is None or 0 <= refused.fields["position"] <= len(text)
    assert all(a < b for a, b in pairwise(found))


@given(st.text(max_size=30).filter(lambda text: text not in available_timezones()))
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(InvalidTrigger) as caught:
        fire_times("0 0 0 1 1 ?", zone=zone, after=datetime(2026, 11, 22, tzinfo=UTC), count=1)
    assert caught.value.fields["position"] == len("0 0 0 1 1 ?")


def test_no_zone_changes_its_clock_twice_within_six_days():
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
    days = range(start, start + 12 * 366 * 86_400, 86_400)
    for zone in map(ZoneInfo, sorted(available_timezones())):
        offsets = [datetime.fromtimestamp(day, zone).utcoffset() for day in days]
        changes = [number for number, (old, new) in enumerate(pairwise(offsets)) if old != new]
        assert all(later - earlier > 5 for earlier, later in pairwise(changes)), zone
