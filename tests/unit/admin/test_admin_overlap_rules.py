"""What becomes of a run beside older ones: every policy, case by case."""

from datetime import timedelta

import pytest

from admin.domain.overlap import Active, Entry, entry, reason_of_skip, turn
from admin.domain.run import RunState
from tests.support.admin_factories import NOW, definition, run

MANY = Active(1, 100)


@pytest.mark.parametrize(
    ("overlap", "limit", "active", "expected"),
    [
        ("skip", None, Active(), Entry.START),
        ("skip", None, Active(1), Entry.SKIP),
        ("skip", None, Active(0, 1), Entry.SKIP),
        ("queue", None, Active(), Entry.START),
        ("queue", None, Active(1), Entry.QUEUE),
        ("queue", None, Active(0, 1), Entry.QUEUE),
        ("queue", None, Active(1, 99), Entry.QUEUE),
        ("queue", None, MANY, Entry.SKIP),
        ("queue", 2, Active(1, 1), Entry.QUEUE),
        ("queue", 2, Active(1, 2), Entry.SKIP),
        ("replace", None, Active(), Entry.START),
        ("replace", None, Active(1), Entry.QUEUE),
        ("replace", None, MANY, Entry.QUEUE),
        ("allow", None, Active(99), Entry.START),
        ("allow", 2, Active(1), Entry.START),
        ("allow", 2, Active(2), Entry.SKIP),
        ("allow", 2, Active(1, 1), Entry.SKIP),
    ],
)
def test_how_a_run_begins(overlap, limit, active, expected):
    fields = {} if limit is None else {"overlap_limit": limit}
    assert entry(definition(overlap=overlap, **fields), active) is expected


@pytest.mark.parametrize(
    ("overlap", "active", "reason"),
    [
        ("skip", Active(1), "an earlier run of the job has not ended (overlap: skip)"),
        ("queue", MANY, "as many runs of the job wait as may, 100 (overlap: queue)"),
        ("allow", Active(2, 1), "as many runs of the job are active as may, 3 (overlap: allow)"),
    ],
)
def test_why_it_is_skipped(overlap, active, reason):
    assert reason_of_skip(definition(overlap=overlap), active) == reason


def test_active_runs_are_counted_one_by_one():
    begun, queued = _run(1), _run(2, is_queued=True)
    over = _run(3)._replace(state=RunState.SKIPPED)
    active = Active().behind(begun).behind(queued).behind(over).behind(queued)
    assert (active, active.count) == (Active(1, 2), 3)


def _run(number, *, overlap="queue", is_queued=False, is_cancelling=False, seconds=0):
    cancelled_at = NOW if is_cancelling else None
    made = run(number, overlap=overlap)._replace(is_queued=is_queued, cancelled_at=cancelled_at)
    return made._replace(fire_at=NOW + timedelta(seconds=seconds))


BEGUN, STOPPED = _run(1), _run(1, is_cancelling=True)
SECOND, THIRD = _run(2, is_queued=True), _run(3, is_queued=True)
EARLY = _run(4, is_queued=True, seconds=-1)
REPLACING = _run(5, is_queued=True, overlap="replace", seconds=1)
LATER = _run(6, is_queued=True, overlap="replace", seconds=2)
BEHIND = _run(7, is_queued=True, seconds=3)


@pytest.mark.parametrize(
    ("active", "start", "skip", "stop"),
    [
        ([], [], [], []),
        ([BEGUN], [], [], []),
        ([BEGUN, SECOND], [], [], []),
        ([THIRD, SECOND], [SECOND], [], []),
        ([SECOND, EARLY], [EARLY], [], []),
        ([BEGUN, REPLACING], [], [], [BEGUN]),
        ([STOPPED, REPLACING], [], [], []),
        ([BEGUN, REPLACING, LATER], [], [REPLACING], [BEGUN]),
        ([REPLACING, LATER], [LATER], [REPLACING], []),
        ([SECOND, REPLACING], [REPLACING], [SECOND], []),
        ([SECOND, REPLACING, BEHIND], [REPLACING], [SECOND], []),
        ([BEGUN, SECOND, REPLACING, BEHIND], [], [SECOND], [BEGUN]),
    ],
)
def test_whose_turn_it_is(active, start, skip, stop):
    found = turn(active)
    assert (list(found.start), list(found.skip), list(found.stop)) == (start, skip, stop)
