"""The fire times of every kind of trigger, and the bounds, policies and jitter that go with them."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from admin.domain.errors import InvalidJob, NeverFires
from admin.domain.plan import fire_of_edited
from admin.domain.trigger import (
    MANUAL,
    QuartzCronTrigger,
    checked_fires,
    delay_of,
    due_at,
    first_fire,
    next_fire,
    preview,
    trigger_of,
)
from protos.errors import InvalidArgument
from tests.support.admin_factories import job

NOW = datetime(2026, 11, 22, 9, 0, 17, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))
MS = timedelta(milliseconds=1)
NEW_YORK = "America/New_York"


def _fires(form: dict[str, object], after: str, count: int = 3, zone: str = "UTC") -> list[str]:
    found = preview(trigger_of(form), datetime.fromisoformat(after), count)
    return [fire.astimezone(ZoneInfo(zone)).strftime("%m-%dT%H:%M:%S%z") for fire in found]


def test_fixed_rates_are_the_same_for_every_admin():
    every = trigger_of({"every": "30s"})
    assert preview(every, NOW, 2) == [NOW.replace(second=30), NOW.replace(minute=1, second=0)]
    assert next_fire(every, NOW.replace(second=30)) == NOW.replace(minute=1, second=0)


def test_a_fixed_rate_with_a_start_counts_from_it():
    every = trigger_of({"every": "1s", "start": "2026-11-22T09:00:00.250Z"})
    start = datetime(2026, 11, 22, 9, 0, 0, 250_000, tzinfo=UTC)
    assert first_fire(every, start - DAY) == start
    assert next_fire(every, start) == start + SECOND
    assert next_fire(every, NOW) == NOW + 250 * MS
    far = trigger_of({"every": "7s", "start": "2026-11-22T09:00:00Z"})
    assert all(second - first == 7 * SECOND for first, second in pairwise(preview(far, NOW, 50)))


def test_at_fires_once_and_manual_never():
    at = datetime(2026, 12, 1, tzinfo=UTC)
    once = trigger_of({"at": at.isoformat()})
    assert next_fire(once, at - SECOND) == at
    assert next_fire(once, at) is None
    assert first_fire(once, at + DAY) == at, "late, not forgotten"
    assert preview(MANUAL, at, 5) == []
    assert first_fire(MANUAL, at) is None


def test_a_fixed_delay_counts_from_the_end_of_a_run():
    after = trigger_of({"after": "10m"})
    assert delay_of(after) == 10 * MINUTE
    assert first_fire(after, NOW) == next_fire(after, NOW) == NOW + 10 * MINUTE
    assert preview(after, NOW, 3) == [NOW + n * 10 * MINUTE for n in (1, 2, 3)]
    assert all(delay_of(trigger_of(form)) is None for form in ({"every": "1s"}, {"manual": True}))


def test_a_fixed_delay_begins_at_its_start_and_ends_with_its_end():
    bounded = trigger_of({"after": "10m", "start": "2026-11-22T09:05:00Z", "end": "2026-11-22T09:30:00Z"})
    start = datetime(2026, 11, 22, 9, 5, tzinfo=UTC)
    assert first_fire(bounded, NOW) == start
    assert first_fire(bounded, start) == start + 10 * MINUTE
    assert next_fire(bounded, start + 15 * MINUTE) == start + 25 * MINUTE
    assert next_fire(bounded, start + 16 * MINUTE) is None


def test_start_and_end_are_fire_times_themselves():
    form = {"cron": "0 0 * * * ?", "start": "2026-11-22T10:00:00Z", "end": "2026-11-22T12:00:00Z"}
    assert _fires(form, "2026-11-20T00:00:00Z", 9) == [
        "11-22T10:00:00+0000",
        "11-22T11:00:00+0000",
        "11-22T12:00:00+0000",
    ]
    assert _fires({**form, "start": "2026-11-22T11:00:00.001Z"}, "2026-11-20T00:00:00Z", 9) == ["11-22T12:00:00+0000"]


def test_a_start_may_lie_further_ahead_than_a_search_looks():
    assert first_fire(trigger_of({"cron": "0 0 0 1 1 ?", "start": "2190-06-01T00:00:00Z"}), NOW).year == 2191


def test_any_fires_whenever_one_does_and_once_where_several_do():
    form = {"any": [{"cron": "0 0/20 * * * ?"}, {"every": "30m"}, {"at": "2026-11-22T09:07:00.500Z"}]}
    found = preview(trigger_of(form), NOW, 5)
    assert [(fire.minute, fire.microsecond) for fire in found] == [(7, 500_000), (20, 0), (30, 0), (40, 0), (0, 0)]


def test_all_fires_where_every_rule_does():
    form = {"all": [{"cron": "0 0/10 * * * ?"}, {"cron": "0 0/15 9-17 * * ?", "time_zone": "Asia/Shanghai"}]}
    assert _fires(form, "2026-11-22T09:17:00Z", 3) == [
        "11-22T09:30:00+0000",
        "11-23T01:00:00+0000",
        "11-23T01:30:00+0000",
    ]
    friday_13 = {"all": [{"cron": "0 0 9 13 * ?"}, {"cron": "0 0 9 ? * FRI"}]}
    assert _fires(friday_13, "2026-11-22T00:00:00Z", 2) == ["08-13T09:00:00+0000", "10-13T09:00:00+0000"]


def test_rates_agree_at_their_common_multiples_without_a_search():
    both = trigger_of({"all": [{"every": "86399s"}, {"every": "86401s"}, {"cron": "* * * * * ?"}]})
    assert next_fire(both, datetime(1970, 1, 1, tzinfo=UTC)) is None, "the first lies 236 years ahead"
    anchored = trigger_of({"all": [{"every": "97s"}, {"every": "89s"}], "start": "2026-11-22T09:00:00Z"})
    assert [fire - NOW.replace(second=0) for fire in preview(anchored, NOW, 2)] == [8633 * SECOND, 2 * 8633 * SECOND]


@pytest.mark.parametrize(
    "form",
    [
        {"cron": "0 0 0 30 2 ?"},
        {"cron": "0 0 0 31W 2,4 ?"},
        {"cron": "0 0 0 L-30 4 ?"},
        {"cron": "0 0 0 ? 2 MON#5 2027"},
        {"cron": "* * * * * ? 2025"},
        {"cron": "0 30 2 ? 3 SUN#2", "time_zone": NEW_YORK},
        {"unix": "0 0 31 4,6,9,11 *"},
        {"all": [{"cron": "0 0 * * * ?"}, {"cron": "30 0 * * * ?"}]},
        {"all": [{"every": "2m"}, {"cron": "0 1/2 * * * ?"}]},
        {"all": [{"at": "2026-12-01T00:00:00Z"}, {"cron": "0 30 * * * ?"}]},
        {"all": [{"every": "365d"}, {"every": "31535999s"}]},
        {"any": [{"cron": "0 0 0 30 2 ?"}, {"at": "2026-11-01T00:00:00Z"}]},
        {"every": "1h", "end": "2026-11-01T00:00:00Z"},
        {"after": "1h", "end": "2026-11-01T00:00:00Z"},
        {"at": "2026-12-01T00:00:00Z", "end": "2026-11-30T00:00:00Z"},
        {"cron": "0 0 0 1 1 ?", "start": "2026-12-01T00:00:00Z", "end": "2026-12-31T00:00:00Z"},
    ],
)
def test_what_never_fires_is_found_out_soon_and_refused(form):
    trigger = trigger_of(form)
    started = time.process_time()
    with pytest.raises(NeverFires):
        checked_fires(trigger, NOW)
    assert time.process_time() - started < 0.5, "milliseconds, on an idle machine"


@pytest.mark.parametrize("form", [{"manual": True}, {"at": "2020-01-01T00:00:00Z"}, {"every": "1s"}, {"after": "1s"}])
def test_what_fires_or_is_late_is_let_through(form):
    assert checked_fires(trigger_of(form), NOW) == trigger_of(form)


def test_a_preview_of_rules_that_hardly_agree_ends():
    form = {"all": [{"cron": "0 0 0 29 2 ?"}, {"cron": "0 * * ? * MON"}]}
    assert [text[:5] for text in _fires(form, "2026-01-01T00:00:00Z", 1000)] == ["02-29"] * 3


@pytest.mark.parametrize("policies", [{}, {"skipped": "shift"}])
def test_a_shifted_time_that_fires_anyway_is_one_fire(policies):
    form = {"cron": "0 30 1,2,3 * * ?", "time_zone": NEW_YORK, **policies}
    found = _fires(form, "2026-03-07T10:00:00Z", 3, NEW_YORK)
    assert found == ["03-08T01:30:00-0500", "03-08T03:30:00-0400", "03-09T01:30:00-0400"]


def test_a_skipped_time_fires_shifted_if_the_job_says_so():
    form = {"cron": "0 10,40 2 * * ?", "time_zone": NEW_YORK}
    assert _fires(form, "2026-03-08T05:00:00Z", 1, NEW_YORK) == ["03-09T02:10:00-0400"]
    shifted = _fires({**form, "skipped": "shift"}, "2026-03-08T05:00:00Z", 3, NEW_YORK)
    assert shifted == ["03-08T03:10:00-0400", "03-08T03:40:00-0400", "03-09T02:10:00-0400"]
    amid = _fires({**form, "skipped": "shift"}, "2026-03-08T07:10:00Z", 1, NEW_YORK)
    assert amid == ["03-08T03:40:00-0400"]


def test_a_day_that_a_zone_leaves_out_fires_shifted_if_the_job_says_so():
    form = {"cron": "0 0 12 30 12 ? 2011", "time_zone": "Pacific/Apia"}
    assert _fires(form, "2011-12-01T00:00:00Z") == []
    assert _fires({**form, "skipped": "shift"}, "2011-12-01T00:00:00Z", 3, "Pacific/Apia") == ["12-31T12:00:00+1400"]


def test_a_repeated_time_fires_twice_if_the_job_says_so():
    form = {"unix": "30 1 * * *", "time_zone": NEW_YORK}
    assert _fires(form, "2026-11-01T00:00:00Z", 2, NEW_YORK) == ["11-01T01:30:00-0500", "11-02T01:30:00-0500"]
    twice = _fires({**form, "repeated": "twice"}, "2026-11-01T00:00:00Z", 3, NEW_YORK)
    assert twice == ["11-01T01:30:00-0400", "11-01T01:30:00-0500", "11-02T01:30:00-0500"]


def test_no_fire_of_the_second_pass_is_lost_behind_an_instant_of_the_first():
    form = {"cron": "0 0/20 1 * * ?", "time_zone": NEW_YORK}
    found = _fires(form, "2026-11-01T05:30:00Z", 3, NEW_YORK)
    assert found == ["11-01T01:00:00-0500", "11-01T01:20:00-0500", "11-01T01:40:00-0500"]


def test_jitter_is_the_same_everywhere_and_less_than_its_bound():
    trigger = trigger_of({"every": "1m", "jitter": "10s"})
    fires = preview(trigger, NOW, 200)
    late = [due_at(trigger, fire, "push") - fire for fire in fires]
    assert late == [due_at(trigger_of({"every": "1m", "jitter": "10s"}), fire, "push") - fire for fire in fires]
    assert all(timedelta() <= each < 10 * SECOND and not each % MS for each in late)
    assert len(set(late)) > 150, "spread"
    assert late != [due_at(trigger, fire, "pull") - fire for fire in fires]
    assert due_at(trigger, datetime(2026, 11, 22, 9, 1, tzinfo=UTC), "push").isoformat() == JITTERED
    assert due_at(trigger_of({"every": "1m"}), NOW, "push") == NOW


JITTERED = "2026-11-22T09:01:05.879000+00:00"  # kept: a newer version draws the same


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"])
def test_an_instant_at_an_end_of_the_calendar_is_one_like_others(at):
    trigger = trigger_of({"at": at, "jitter": "1d"})
    fire = first_fire(checked_fires(trigger, NOW), NOW)
    assert fire == datetime.fromisoformat(at)
    assert due_at(trigger, fire, "push") >= fire
    both = trigger_of({"all": [{"at": at}, {"cron": "* * * * * ?"}], "jitter": "1d"})
    assert first_fire(both, NOW) is None


def test_a_new_trigger_is_compared_with_the_old_one_whole():
    old = job(trigger={"every": "1h"}, next_fire_at=NOW)
    bounded = job(trigger={"every": "1h", "end": "2026-11-22T20:00:00Z"})
    assert fire_of_edited(old, bounded, NOW, awaits_end=False) == NOW.replace(hour=10, minute=0, second=0)
    assert len({old.definition.trigger, bounded.definition.trigger}) == 2


def test_the_trigger_is_one_of_apscheduler():
    trigger = QuartzCronTrigger("0 0 9 L * ?", "Asia/Shanghai")
    found = trigger.get_next_fire_time(None, NOW)
    assert found.isoformat() == "2026-11-30T09:00:00+08:00"
    assert trigger.get_next_fire_time(found, NOW).isoformat() == "2026-12-31T09:00:00+08:00"


def test_a_preview_needs_an_instant_of_our_days():
    for after in (datetime(2026, 1, 1), datetime(1969, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)):  # noqa: DTZ001
        with pytest.raises(InvalidArgument):
            preview(MANUAL, after, 1)


@pytest.mark.parametrize(
    ("form", "jitter", "gap"),
    [
        ({"every": "1m", "jitter": "61s"}, "1m1s", "1m"),
        ({"cron": "0 0/5 9,10 * * ?", "jitter": "1h"}, "1h", "5m"),
        ({"any": [{"every": "7m"}, {"every": "5m"}], "jitter": "3m"}, "3m", "1m"),
        ({"unix": "0 9 * * *", "start": "2030-01-01T00:00:00Z", "jitter": "1d"}, "", ""),
        ({"every": "1m", "jitter": "1m"}, "", ""),
        ({"at": "2026-11-23T09:00:00Z", "jitter": "1d"}, "", ""),
        ({"after": "1m", "jitter": "1d"}, "", ""),
    ],
)
def test_a_jitter_beyond_the_next_fire_is_refused_where_a_job_is_saved(form, jitter, gap):
    trigger = trigger_of(form)
    if not jitter:
        assert checked_fires(trigger, NOW) == trigger
        return
    with pytest.raises(InvalidJob, match=f"a jitter of {jitter} is longer than the {gap} between"):
        checked_fires(trigger, NOW)
    assert checked_fires(trigger, NOW, is_new=False) == trigger, "one that was let in before is resumed"
