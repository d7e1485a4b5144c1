"""However the planner's clock ticks, no fire is lost or doubled."""

from datetime import timedelta
from itertools import takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from admin.domain.plan import CATCH_UP, GRACE, fires_of
from admin.domain.trigger import due_at, next_fire, preview
from tests.support.admin_factories import NOW, job

TRIGGERS = st.sampled_from(
    [
        {"every": "1s"},
        {"every": "7s"},
        {"every": "1s", "start": "2026-11-22T09:00:05.250Z"},
        {"cron": "*/10 * * * * ?"},
        {"cron": "*/3 * * * * ?", "end": "2026-11-22T09:00:30Z"},
        {"unix": "*/2 * * * *"},
        {"any": [{"every": "7s"}, {"cron": "*/10 * * * * ?"}, {"at": "2026-11-22T09:00:11.500Z"}]},
        {"all": [{"every": "2s"}, {"cron": "*/3 * * * * ?"}]},
    ]
)
SHORT = st.lists(st.floats(0, 5), min_size=1, max_size=20)
LONG = st.lists(st.floats(0, 60), min_size=1, max_size=8)


def _served(trigger, misfire: str, pauses) -> tuple[list, list, object]:
    """(fires served, fires named by the trigger, the last now) when the planner looks after these pauses."""
    current = job(trigger=trigger, misfire=misfire)
    current = current._replace(next_fire_at=next_fire(current.definition.trigger, NOW))
    served, now = [], NOW
    for pause in pauses:
        now += timedelta(seconds=pause)
        while current.next_fire_at is not None and current.next_fire_at <= now:
            fires = fires_of(current, now)
            assert fires.next_fire_at is None or fires.next_fire_at > current.next_fire_at
            served += fires.due
            current = current._replace(next_fire_at=fires.next_fire_at)
    named = list(takewhile(lambda fire: fire <= now, preview(current.definition.trigger, NOW, 500)))
    return served, named, now


@settings(deadline=None)
@given(TRIGGERS, st.sampled_from(["fire_once", "skip", "fire_all"]), SHORT)
def test_a_planner_that_looks_in_time_serves_each_fire_once(trigger, misfire, pauses):
    served, named, _ = _served(trigger, misfire, pauses)
    assert served == named


@settings(deadline=None)
@given(TRIGGERS, LONG)
def test_fire_all_serves_each_fire_once_however_late(trigger, pauses):
    served, named, _ = _served(trigger, "fire_all", pauses)
    assert served == named


@settings(deadline=None)
@given(TRIGGERS, st.sampled_from(["fire_once", "skip"]), LONG)
def test_the_other_policies_serve_what_is_not_late_and_never_anything_twice(trigger, misfire, pauses):
    served, named, now = _served(trigger, misfire, pauses)
    assert served == sorted(set(served))
    assert set(served) <= set(named)
    assert [fire for fire in served if fire >= now - GRACE] == [fire for fire in named if fire >= now - GRACE]


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0, 1), st.sampled_from(["fire_once", "skip"]), LONG)
def test_no_jitter_up_to_the_period_drops_a_fire_that_is_served_in_time(period, share, misfire, pauses):
    jitter_ms = round(period * share * 1000)
    trigger = {"every": f"{period}s", "jitter": f"{jitter_ms}ms"}
    current = job(trigger=trigger, misfire=misfire)
    trigger = current.definition.trigger
    current = current._replace(next_fire_at=next_fire(trigger, NOW))
    served, in_time, now = [], set(), NOW
    for pause in pauses:
        looked_at, now = now, now + timedelta(seconds=pause)
        named = takewhile(lambda fire: fire <= now, preview(trigger, NOW, 500))  # noqa: B023
        due = {fire: due_at(trigger, fire, current.name) for fire in named}
        in_time |= {fire for fire, at in due.items() if max(looked_at, now - GRACE) < at <= now}
        while current.next_due_at is not None and current.next_due_at <= now:
            fires = fires_of(current, now)
            served += fires.due
            current = current._replace(next_fire_at=fires.next_fire_at)
    assert served == sorted(set(served))
    assert in_time <= set(served)


@settings(deadline=None)
@given(st.integers(6, 10_000_000))
def test_one_run_stands_for_all_that_was_missed(late_seconds):
    late = job(trigger={"every": "1h"})._replace(next_fire_at=NOW)
    now = NOW + timedelta(seconds=late_seconds)
    fires = fires_of(late, now)
    assert fires.due[0] == NOW
    assert all(fire >= now - GRACE for fire in fires.due[1:])
    assert fires.next_fire_at > now


def test_fire_all_goes_back_no_further_than_its_bound():
    late = job(trigger={"every": "1h"}, misfire="fire_all")._replace(next_fire_at=NOW)
    now = NOW + timedelta(days=30)
    assert list(fires_of(late, now).due) == [now - CATCH_UP + timedelta(hours=n) for n in range(25)]
