"""Cron expressions: against a plain walk over every second or minute, known clock changes, and what is refused."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from admin.domain.errors import InvalidTrigger
from admin.domain.trigger import fire_times
from protos.errors import InvalidArgument

NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2026, 1, 1, tzinfo=UTC)


def _texts(expression: str, after: str, count: int, **options: str) -> list[str]:
    fires = fire_times(expression, after=datetime.fromisoformat(after), count=count, **options)
    return [fire.isoformat() for fire in fires]


def test_every_morning_in_the_zone_it_names():
    found = _texts("0 0 9 * * ?", "2026-11-22T00:00:00+00:00", 2, zone="Asia/Shanghai")
    assert found == ["2026-11-22T09:00:00+08:00", "2026-11-23T09:00:00+08:00"]


def test_fires_lie_strictly_behind_after_in_whole_seconds():
    assert _texts("* * * * * ?", "2026-01-01T00:00:00.500+00:00", 1) == ["2026-01-01T00:00:01+00:00"]
    assert _texts("0 0 9 * * ?", "2026-01-01T09:00:00+00:00", 1) == ["2026-01-02T09:00:00+00:00"]


def test_quartz_counts_weekdays_from_sunday_and_one():
    by_number = _texts("0 0 0 ? * 2-6", "2026-11-20T12:00:00+00:00", 5)
    assert by_number == _texts("0 0 0 ? * MON-FRI", "2026-11-20T12:00:00+00:00", 5)
    assert by_number[0].startswith("2026-11-23"), "a Monday"
    assert _texts("0 0 0 ? * 1", "2026-11-20T12:00:00+00:00", 1)[0].startswith("2026-11-22"), "a Sunday"


def test_unix_counts_weekdays_from_sunday_and_zero_and_takes_seven_too():
    sunday = _texts("0 0 * * 0", "2026-11-20T12:00:00+00:00", 3, dialect="unix")
    assert sunday == _texts("0 0 * * 7", "2026-11-20T12:00:00+00:00", 3, dialect="unix")
    assert sunday[0].startswith("2026-11-22")


def test_unix_fires_on_either_day_where_both_are_given():
    found = _texts("0 0 13 * FRI", "2026-11-01T00:00:00+00:00", 5, dialect="unix")
    assert [text[:10] for text in found] == ["2026-11-06", "2026-11-13", "2026-11-20", "2026-11-27", "2026-12-04"]


def test_an_expression_that_ends_gives_fewer_fires():
    assert _texts("0 0 0 1 1 ? 2027", "2026-01-01T00:00:00+00:00", 3) == ["2027-01-01T00:00:00+00:00"]
    assert _texts("0 0 0 30 2 ?", "2026-01-01T00:00:00+00:00", 3) == []
    assert _texts("0 0 0 ? * MON 1999", "2026-01-01T00:00:00+00:00", 3) == []


def test_leap_days_are_found():
    found = _texts("0 0 0 29 2 ?", "2026-01-01T00:00:00+00:00", 3)
    assert [text[:10] for text in found] == ["2028-02-29", "2032-02-29", "2036-02-29"]


def test_a_wall_time_that_the_clock_skips_does_not_fire():
    found = _texts("0 30 2 * * ?", "2026-03-07T12:00:00+00:00", 2, zone="America/New_York")
    assert found == ["2026-03-09T02:30:00-04:00", "2026-03-10T02:30:00-04:00"]


def test_a_wall_time_that_the_clock_repeats_fires_once_in_the_second_pass():
    found = _texts("0 30 1 * * ?", "2026-10-31T12:00:00+00:00", 2, zone="America/New_York")
    assert found == ["2026-11-01T01:30:00-05:00", "2026-11-02T01:30:00-05:00"]


def test_a_clock_that_moves_half_an_hour_loses_nothing_behind_its_gap():
    found = _texts("0 0/15 * * * ?", "2026-10-03T15:20:00+00:00", 3, zone="Australia/Lord_Howe")
    assert found == ["2026-10-04T02:30:00+11:00", "2026-10-04T02:45:00+11:00", "2026-10-04T03:00:00+11:00"]


def _matches(expression: str, local: datetime) -> bool:
    """The plain reading of fields made of *, ?, numbers, lists, ranges and steps."""
    values = (local.second, local.minute, local.hour, local.day, local.month, local.isoweekday() % 7 + 1)
    lows = (0, 0, 0, 1, 1, 1)
    return all(map(_field_matches, expression.split(), values, lows))


def _field_matches(field: str, value: int, low: int) -> bool:
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = (str(low), "", "99") if span in "*?" else span.partition("-")
        upper = int(last or (99 if step else first))
        if int(first) <= value <= upper and (value - int(first)) % int(step or 1) == 0:
            return True
    return False


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Europe/Dublin"])
@pytest.mark.parametrize(
    "expression",
    ["0 */20 * * * ?", "0 15,45 1-3 * * ?", "0 0 0 ? * 1", "0 30 0/6 1-7,20 3,10,11 ?", "0 59 23 28-31 * ?"],
)
def test_fires_are_those_of_a_walk_over_every_minute(expression, zone):
    place = ZoneInfo(zone)
    for start in (
        datetime(2026, 3, 6, tzinfo=UTC),
        datetime(2026, 10, 2, tzinfo=UTC),
        datetime(2026, 10, 30, tzinfo=UTC),
    ):
        minutes = (start + timedelta(minutes=n) for n in range(1, 4 * 24 * 60))
        walked = [at for at in minutes if _matches(expression, local := at.astimezone(place)) and not _repeats(local)]
        found = fire_times(expression, zone=zone, after=start, count=len(walked) + 1)
        assert [at.astimezone(UTC) for at in found[: len(walked)]] == walked
        assert not found[len(walked) :] or found[-1] >= start + timedelta(days=4)


def _repeats(local: datetime) -> bool:
    """Whether the same wall time comes again."""
    again = local.replace(fold=1)
    return local.fold == 0 and again.utcoffset() != local.utcoffset()


@pytest.mark.parametrize(
    ("expression", "position"),
    [
        ("0 0 L * * ?", 4),
        ("0 0 9 15W/2 * ?", 6 + 2),
        ("0 0 9 WL * ?", 6),
        ("0 0 9 0W * ?", 6),
        ("0 0 9 32W * ?", 6),
        ("0 0 9 L-31 * ?", 8),
        ("0 0 9 L-31W * ?", 8),
        ("0 0 9 L/2 * ?", 6),
        ("0 0 9 ? * FRI#0", 14),
        ("0 0 9 ? * 6#6", 12),
        ("0 0 9 ? * MON-FRI#2", 17),
        ("0 0 9 ? * 8L", 10),
        ("0 0 9 ? * XYZL", 10),
        ("0 0 9 ? * L,MON", 10),
        ("0 0 9 ? * L-3", 10),
        ("0 0 9 ? * ? 2028-2026", 12),
        ("0 0 9 15 * L", 11),
        ("0 0 9 * * ? 2200", 12),
        ("0 0 9 * * ? 1969", 12),
        ("0 0 9 ? * TUES", 13),
        ("0 0 9 ? * XYZ", 10),
        ("0 0 9 * *", 9),
        ("", 0),
        ("0 0 9 * * ? 2027 1", 17),
        ("5x 0 0 * * ?", 1),
        ("** 0 0 * * ?", 1),
        ("0 0 0 1,, * ?", 8),
        ("0 0 0 ?,5 * ?", 6),
        ("0/0 0 0 * * ?", 2),
        ("0 0 9 99 * ?", 6),
        ("0 0 9 0 * ?", 6),
        ("60 0 9 * * ?", 0),
        ("0 0 9 1 * MON", 10),
        ("0 0 9 ? * ?", 10),
        ("? 0 9 * * ?", 0),
        ("-1 0 9 * * ?", 0),
        ("0 0 9 1-5L * ?", 9),
        ("0 0/99999999999999999999 9 * * ?", 13),
        ("0 0/60 9 * * ?", 4),
        ("0 0 /24 * * ?", 5),
        ("0 / 9 * * ?", 2),
        ("0 0 9 1-5W * ?", 9),
        ("0 0 9 ?/2 * ?", 6),
        ("0 0 9 ١ * ?", 6),
    ],
)
def test_what_is_not_understood_is_refused_with_its_position(expression, position):
    with pytest.raises(InvalidTrigger) as caught:
        fire_times(expression, after=START, count=1)
    assert caught.value.fields["position"] == position


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 9 * * ?",
        "@daily",
        "0 0 * * 8",
        "60 * * * *",
        "0 0 ? * 1",
        "0 0 L * *",
        "0 0 * * 1#2",
        "/5 * * * *",
        "0 22-2 * * *",
    ],
)
def test_unix_refuses_what_is_not_unix(expression):
    with pytest.raises(InvalidTrigger):
        fire_times(expression, after=START, count=1, dialect="unix")


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ("L * ?", ["01-31", "02-28", "03-31", "04-30"]),
        ("L-3 * ?", ["01-28", "02-25", "03-28", "04-27"]),
        ("LW * ?", ["01-29", "02-26", "03-31", "04-30"]),
        ("L-3W * ?", ["01-28", "02-25", "03-29", "04-27"]),
        ("1W * ?", ["01-01", "02-01", "03-01", "04-01"]),
        ("15W * ?", ["01-15", "02-15", "03-15", "04-15"]),
        ("30W * ?", ["01-29", "03-30", "04-30", "05-31"]),
        ("1,15W,L 5 ?", ["05-01", "05-14", "05-31"]),
        ("? * FRI#3", ["01-15", "02-19", "03-19", "04-16"]),
        ("? * 6#5", ["01-29", "04-30", "07-30", "10-29"]),
        ("? * FRIL", ["01-29", "02-26", "03-26", "04-30"]),
        ("? 5 2L,WED#1", ["05-05", "05-31"]),
        ("? 1 L", ["01-02", "01-09", "01-16"]),
        ("? 1 FRI-MON", ["01-01", "01-02", "01-03", "01-04"]),
        ("30-2 NOV-JAN ?", ["01-01", "01-02", "01-30", "01-31"]),
        ("29 2 ? 2028/4", ["02-29", "02-29"]),
    ],
)
def test_days_are_named_in_every_way_that_quartz_has(days, found):
    texts = _texts(f"0 0 9 {days}", "2026-12-31T12:00:00+00:00", len(found))
    assert [text[5:10] for text in texts] == found


def test_hours_and_minutes_go_on_from_their_lowest():
    found = _texts("0 50-10/10 23-0 * * ?", "2026-01-01T12:00:00+00:00", 6)
    assert [text[11:16] for text in found] == ["23:00", "23:10", "23:50", "00:00", "00:10", "00:50"]


def test_steps_behind_names_and_mixed_ranges_count():
    found = _texts("0 0 0 ? * MON-FRI/2", "2026-11-22T12:00:00+00:00", 3)
    assert [text[:10] for text in found] == ["2026-11-23", "2026-11-25", "2026-11-27"]
    assert _texts("0 0 0 ? * MON-6", "2026-11-22T12:00:00+00:00", 9) == _texts(
        "0 0 0 ? * MON-FRI", "2026-11-22T12:00:00+00:00", 9
    )


def test_unknown_zones_dialects_and_naive_instants_are_refused():
    with pytest.raises(InvalidTrigger, match="Mars/Olympus"):
        fire_times("0 0 9 * * ?", zone="Mars/Olympus", after=START, count=1)
    with pytest.raises(InvalidArgument, match="dialect"):
        fire_times("0 0 9 * * ?", after=START, count=1, dialect="spring")
    with pytest.raises(InvalidArgument, match="time zone"):
        fire_times("0 0 9 * * ?", after=datetime(2026, 1, 1), count=1)  # noqa: DTZ001
