"""Which fire times a job begins with, keeps through edits, and serves."""

from datetime import timedelta
from itertools import count

import pytest

from admin.domain.plan import fire_behind_end, fire_of_edited, fires_of, is_doubtful, key_of_fire, plan, without
from admin.domain.run import Cause
from admin.domain.trigger import first_fire
from tests.support.admin_factories import NONE, NOW, job, run, run_id

SECOND = timedelta(seconds=1)


def test_an_instant_finer_than_the_books_is_one_fire():
    instant = NOW + timedelta(microseconds=123_456)
    due = job(trigger={"at": instant.isoformat()}, next_fire_at=NOW + timedelta(milliseconds=123))
    fires = fires_of(due, NOW + SECOND)
    assert [key_of_fire(fire) for fire in fires.due] == [key_of_fire(NOW + timedelta(milliseconds=123))]
    assert fires.next_fire_at is None


@pytest.mark.parametrize(("misfire", "count"), [("fire_once", 1), ("fire_all", 1), ("skip", 0)])
def test_an_instant_that_has_passed_already_is_late_and_not_forgotten(misfire, count):
    new = job(trigger={"at": (NOW - 60 * SECOND).isoformat()}, misfire=misfire)
    new = new._replace(next_fire_at=first_fire(new.definition.trigger, NOW))
    assert len(fires_of(new, NOW).due) == count


def test_what_is_due_stays_due_when_something_else_is_edited():
    old = job(trigger={"every": "1h"}, next_fire_at=NOW - SECOND)
    edited = old._replace(definition=job(trigger={"every": "1h"}, shards=4).definition)
    assert fire_of_edited(old, edited, NOW, awaits_end=False) == NOW - SECOND


def test_another_trigger_or_an_end_of_a_pause_begins_behind_now():
    old = job(trigger={"every": "1h"}, next_fire_at=NOW - SECOND)
    assert (
        fire_of_edited(old, old._replace(definition=job(trigger={"every": "1s"}).definition), NOW, awaits_end=False)
        == NOW + SECOND
    )
    paused = old._replace(is_paused=True)
    assert fire_of_edited(old, paused, NOW, awaits_end=False) is None
    assert fire_of_edited(paused, old, NOW, awaits_end=False) == NOW + timedelta(hours=1)


def test_a_fire_with_jitter_is_served_late_and_keeps_its_time():
    jittered = job(trigger={"every": "1m", "jitter": "50s"}, next_fire_at=NOW)
    due = jittered.next_due_at
    assert NOW < due < NOW + 50 * SECOND
    assert not fires_of(jittered, due - SECOND).due
    assert fires_of(jittered, due).due == [NOW]


def test_a_fixed_delay_waits_for_the_end_of_its_run():
    delayed = job(trigger={"after": "10m", "end": (NOW + timedelta(minutes=15)).isoformat()}, next_fire_at=NOW)
    fires = fires_of(delayed, NOW + SECOND)
    assert (list(fires.due), fires.next_fire_at) == ([NOW], None)
    waiting, fired = delayed._replace(next_fire_at=None), run()._replace(cause=Cause.FIRE)
    assert fire_behind_end(waiting, fired, NOW + SECOND) == NOW + timedelta(minutes=10, seconds=1)
    assert fire_behind_end(waiting, fired, NOW + timedelta(minutes=6)) is None, "behind its end"
    for other in (fired._replace(cause=Cause.MANUAL), fired._replace(fire_at=NOW - SECOND)):
        assert fire_behind_end(waiting._replace(last_fire_at=NOW), other, NOW + SECOND) is None
    planned = waiting._replace(next_fire_at=NOW + SECOND, last_fire_at=NOW)
    assert fire_behind_end(planned, fired, NOW) == NOW + SECOND, "what is planned already stays"
    assert fire_behind_end(waiting._replace(is_paused=True, last_fire_at=NOW), fired, NOW) is None
    hourly = job(trigger={"every": "1h"})
    assert fire_behind_end(hourly, fired, NOW) is None, "no delay"


def test_the_last_fire_is_kept_and_those_up_to_it_are_doubtful():
    numbers = count(1)
    late = job(trigger={"every": "1s"}, misfire="fire_all", overlap="allow")._replace(next_fire_at=NOW)
    planned = plan(late, NOW + 2 * SECOND, NONE, executors=0, new_id=lambda: run_id(next(numbers)))
    assert [run.fire_at for run in planned.runs] == [NOW, NOW + SECOND, NOW + 2 * SECOND]
    assert planned.job.last_fire_at == NOW + 2 * SECOND
    again = planned.job._replace(next_fire_at=NOW)
    planned = plan(again, NOW + 3 * SECOND, NONE, executors=0, new_id=lambda: run_id(next(numbers)))
    assert [is_doubtful(again, run) for run in planned.runs] == [True, True, True, False]
    known = {run.id for run in planned.runs[:3]}
    assert [run.fire_at for run in without(planned, known).runs] == [NOW + 3 * SECOND]
    assert all(is_doubtful(late, run) for run in planned.runs), "of a job that has not fired"


def test_a_fire_with_a_fixed_delay_has_a_key_of_its_own():
    delayed = job(trigger={"after": "10m"}, next_fire_at=NOW)
    (fired,) = plan(delayed, NOW, NONE, executors=0, new_id=lambda: run_id(7)).runs
    assert (fired.key, fired.fire_at) == (run_id(7), NOW)
