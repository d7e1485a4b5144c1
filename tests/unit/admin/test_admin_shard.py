"""The table of shard states, cell by cell, and what reports, lapses and orders do."""

from datetime import timedelta

import pytest

from admin.domain.errors import IllegalMove
from admin.domain.names import Attempt, ExecutorId
from admin.domain.run import (
    OVERTIME,
    Outcome,
    OutcomeState,
    RunState,
    Verdict,
    assigned,
    on_beat,
    on_cancel,
    on_lapse,
    on_outcome,
    on_refusal,
    settled,
    state_of,
    verdict,
)
from admin.domain.shard import (
    HELD,
    TABLE,
    Assigned,
    Beaten,
    Counters,
    Ended,
    Event,
    Fault,
    HandedBack,
    Move,
    Reopened,
    Retried,
    ShardState,
    step,
)
from tests.support.admin_factories import LEASE, NOW, ONE, run, shard

LATER = NOW + timedelta(seconds=1)
COUNTERS = Counters(rows=5, published=4, cursor="[9]")
EVENTS: dict[Move, Event] = {
    Move.ASSIGN: Assigned(NOW, ONE, "one", NOW + LEASE),
    Move.BEAT: Beaten(NOW, NOW + LEASE),
    Move.HAND_BACK: HandedBack(NOW, LATER, True),
    Move.RETRY: Retried(NOW, LATER, True, Fault("e", "m"), COUNTERS),
    **{move: Ended(NOW, move, True) for move in (Move.SUCCEED, Move.FAIL, Move.CANCEL, Move.LOSE, Move.SKIP)},
    Move.REOPEN: Reopened(NOW),
}
ENDS = {"succeed": "succeeded", "fail": "failed", "cancel": "cancelled", "lose": "lost", "skip": "skipped"}
EXPECTED = {
    ("waiting", "assign"): "assigned",
    ("waiting", "cancel"): "cancelled",
    ("failed", "reopen"): "waiting",
    ("lost", "reopen"): "waiting",
    **{(held, "beat"): "running" for held in ("assigned", "running")},
    **{(held, back): "waiting" for held in ("assigned", "running") for back in ("hand_back", "retry")},
    **{(held, move): end for held in ("assigned", "running") for move, end in ENDS.items()},
}


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("state", ShardState)
def test_each_move_leads_where_the_table_says_and_nowhere_else(state, move):
    expected = EXPECTED.get((str(state), str(move)))
    if expected is None:
        with pytest.raises(IllegalMove):
            step(shard(state), EVENTS[move])
    else:
        assert step(shard(state), EVENTS[move]).state == expected


def test_the_table_names_nothing_beyond_what_is_expected():
    assert {(str(state), str(move)): str(end) for (state, move), end in TABLE.items()} == EXPECTED


def test_an_assignment_raises_the_term_and_counts_an_attempt():
    waiting = shard(ShardState.WAITING, attempt=1, term=3)
    assigned = step(waiting, EVENTS[Move.ASSIGN])
    assert (assigned.term, assigned.attempt, assigned.holder) == (4, 2, ONE)
    assert assigned.leased_until_at == NOW + LEASE


def test_what_is_handed_back_costs_no_attempt_and_keeps_the_highest_term_known():
    back = step(shard(term=3, attempt=2), HandedBack(NOW, LATER, True, least_term=7))
    assert (back.attempt, back.term, back.losses, back.due_at, back.leased_until_at) == (1, 7, 0, LATER, None)
    assert back.reported_term == 3


def test_a_reopened_shard_counts_anew_but_keeps_term_and_counters():
    failed = shard(ShardState.FAILED, attempt=3, losses=4, term=9, counters=COUNTERS)
    again = step(failed, Reopened(LATER))
    assert (again.attempt, again.losses, again.term, again.counters) == (0, 0, 9, COUNTERS)


def _outcome(state: OutcomeState, term: int = 3, **fields: object) -> Outcome:
    return Outcome(Attempt(shard().run_id, 0, term), state, COUNTERS, **fields)


@pytest.mark.parametrize("state", [state for state in ShardState if state not in HELD])
@pytest.mark.parametrize("outcome", OutcomeState)
def test_a_report_on_a_shard_that_is_not_held_changes_nothing(state, outcome):
    assert on_outcome(shard(state), _outcome(outcome), run(), NOW) is None


@pytest.mark.parametrize("term", [1, 2, 4])
@pytest.mark.parametrize("outcome", OutcomeState)
def test_a_report_of_another_term_is_superseded_and_changes_nothing(outcome, term):
    report = _outcome(outcome, term)
    assert on_outcome(shard(), report, run(), NOW) is None
    assert verdict(shard(), report.attempt) is Verdict.SUPERSEDED


def test_a_report_that_was_accepted_is_accepted_again_without_effect():
    done = step(shard(), on_outcome(shard(), _outcome(OutcomeState.SUCCEEDED), run(), NOW))
    assert verdict(done, _outcome(OutcomeState.SUCCEEDED).attempt) is Verdict.ACCEPTED
    assert on_outcome(done, _outcome(OutcomeState.SUCCEEDED), run(), NOW) is None


def test_a_late_report_behind_a_lapse_is_superseded():
    lapsed = step(shard(), on_lapse(shard(), run(), NOW + LEASE))
    assert verdict(lapsed, shard().current) is Verdict.SUPERSEDED


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (_outcome(OutcomeState.SUCCEEDED), "succeeded"),
        (_outcome(OutcomeState.SKIPPED), "skipped"),
        (_outcome(OutcomeState.FAILED, is_retryable=False), "failed"),
        (_outcome(OutcomeState.FAILED, is_retryable=True), "waiting"),
        (_outcome(OutcomeState.FENCED, broker_term=9), "waiting"),
        (_outcome(OutcomeState.RELEASED), "waiting"),
        (_outcome(OutcomeState.CANCELLED), "waiting"),
    ],
)
def test_outcomes_lead_to_their_states_and_keep_the_counters(outcome, state):
    owner = run(retry={"attempts": 2})
    after = step(shard(), on_outcome(shard(), outcome, owner, NOW))
    assert (after.state, after.counters) == (state, COUNTERS)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (OutcomeState.SUCCEEDED, "succeeded"),
        (OutcomeState.SKIPPED, "skipped"),
        (OutcomeState.FAILED, "cancelled"),
        (OutcomeState.FENCED, "cancelled"),
        (OutcomeState.RELEASED, "cancelled"),
        (OutcomeState.CANCELLED, "cancelled"),
    ],
)
def test_of_a_cancelled_run_only_what_is_done_is_done(outcome, state):
    owner = run(retry={"attempts": 9})._replace(cancelled_at=NOW)
    after = step(shard(), on_outcome(shard(), _outcome(outcome, is_retryable=True), owner, NOW))
    assert after.state == state


def test_a_failed_shard_waits_as_the_policy_or_the_handler_says():
    owner = run(retry={"attempts": 2, "backoff": "fixed", "initial": "5s"})
    event = on_outcome(shard(), _outcome(OutcomeState.FAILED, is_retryable=True), owner, NOW)
    assert step(shard(), event).due_at == NOW + timedelta(seconds=5)
    asked = _outcome(OutcomeState.FAILED, is_retryable=True, retry_after=timedelta(hours=1))
    assert step(shard(), on_outcome(shard(), asked, owner, NOW)).due_at == NOW + timedelta(hours=1)


def test_the_last_attempt_fails_for_good():
    owner = run(retry={"attempts": 2})
    event = on_outcome(shard(attempt=2), _outcome(OutcomeState.FAILED, is_retryable=True), owner, NOW)
    assert step(shard(attempt=2), event).state == "failed"


def test_a_lease_lapses_at_its_end_and_not_before():
    assert on_lapse(shard(), run(), NOW + LEASE - timedelta(milliseconds=1)) is None
    after = step(shard(), on_lapse(shard(), run(), NOW + LEASE))
    assert (after.state, after.attempt, after.losses) == ("waiting", 0, 1)


def test_a_shard_that_outlives_its_holders_too_often_is_lost():
    doomed = shard(losses=2)
    after = step(doomed, on_lapse(doomed, run(retry={"losses": 3}), NOW + LEASE))
    assert (after.state, after.fault.code) == ("lost", "holders_lost")


@pytest.mark.parametrize(("attempts", "state"), [(1, "failed"), (2, "waiting")])
def test_an_attempt_that_goes_on_behind_its_timeout_is_taken_away_and_counts(attempts, state):
    owner = run(timeout="1m", retry={"attempts": attempts, "initial": "7s", "backoff": "fixed"})
    waiting = shard(ShardState.WAITING, attempt=0)
    held = step(waiting, assigned(owner, ONE, "one", timedelta(hours=1), NOW))
    deadline_at = NOW + timedelta(minutes=1) + OVERTIME
    assert held.leased_until_at == held.deadline_at == deadline_at, "no lease lasts longer"
    held = step(held, on_beat(held, ONE, held.current, timedelta(hours=1), LATER))
    assert held.leased_until_at == deadline_at, "nor does a beat extend it"
    after = step(held, on_lapse(held, owner, deadline_at))
    assert (after.state, after.attempt, after.losses, after.fault.code) == (state, 1, 0, "timed_out")
    if state == "waiting":
        assert after.due_at == deadline_at + timedelta(seconds=7)
    assert verdict(after, held.current) is Verdict.SUPERSEDED, "its report comes too late"


def test_a_beat_within_the_timeout_extends_by_the_lease():
    owner = run(timeout="1m")
    held = step(shard(ShardState.WAITING), assigned(owner, ONE, "one", LEASE, NOW))
    assert step(held, on_beat(held, ONE, held.current, LEASE, LATER)).leased_until_at == LATER + LEASE


def test_a_lapsed_shard_of_a_cancelled_run_is_cancelled():
    owner = run()._replace(cancelled_at=NOW)
    assert step(shard(), on_lapse(shard(), owner, NOW + LEASE)).state == "cancelled"


def test_only_the_holder_beats_and_refuses():
    other = ExecutorId("other")
    assert on_beat(shard(), other, shard().current, LEASE, NOW) is None
    assert on_refusal(shard(), other, shard().current, run(), NOW) is None
    assert on_beat(shard(), ONE, shard().current, LEASE, NOW) is not None
    refused = step(shard(), on_refusal(shard(), ONE, shard().current, run(), NOW))
    assert (refused.state, refused.attempt) == ("waiting", 0)
    assert refused.due_at > NOW


@pytest.mark.parametrize("state", ShardState)
def test_cancel_ends_waiting_shards_alone(state):
    assert (on_cancel(shard(state), run(), NOW) is not None) == (state is ShardState.WAITING)


@pytest.mark.parametrize(
    ("tally", "state"),
    [
        ({"waiting": 2}, "waiting"),
        ({"waiting": 1, "succeeded": 1}, "running"),
        ({"assigned": 1, "failed": 1}, "running"),
        ({"running": 1, "lost": 1}, "running"),
        ({"succeeded": 2}, "succeeded"),
        ({"succeeded": 1, "skipped": 1}, "succeeded"),
        ({"skipped": 2}, "skipped"),
        ({"succeeded": 1, "failed": 1}, "failed"),
        ({"cancelled": 1, "lost": 1}, "failed"),
        ({"succeeded": 1, "cancelled": 1, "skipped": 1}, "cancelled"),
        ({"succeeded": 1, "failed": 0}, "succeeded"),
    ],
)
def test_the_state_of_a_run_follows_from_its_shards(tally, state):
    assert state_of({ShardState(name): count for name, count in tally.items()}) == state


def test_a_run_that_began_stays_running_while_its_shard_waits_for_another_try():
    began = settled(run(), {ShardState.ASSIGNED: 1}, NOW)
    waiting = settled(began, {ShardState.WAITING: 1}, LATER)
    assert (waiting.state, waiting.started_at, waiting.ended_at) == (RunState.RUNNING, NOW, None)


def test_a_failed_run_says_how_many_shards_failed():
    ended = settled(run(shards=3), {ShardState.FAILED: 1, ShardState.LOST: 2}, NOW)
    assert (ended.reason, ended.ended_at) == ("1 of 3 shards failed and 2 of 3 shards lost", NOW)
