"""Fires of a window are counted once each: late, lost and doubled ones are told apart."""

from benchmarks.scheduler.ledger import FIELDS, Ledger
from benchmarks.scheduler.measure import Arrival, window
from protos.executor.v1 import link_pb2 as pb

ON_TIME = [Arrival(job, fire, fire + 5.0, True) for fire in (1_000, 2_000) for job in (0, 1)]


def test_a_rate_is_kept_up_with_when_all_came_once_and_are_finished() -> None:
    found = window([*ON_TIME, Arrival(0, 3_000, 3_005.0, True)], jobs=2, begin=1_000, end=3_000, until=9_000)
    assert (found.expected, found.arrived, found.finished, found.lost, found.doubled) == (4, 4, 4, 0, 0)
    assert found.is_kept_up_with


def test_lost_doubled_unfinished_and_late_ones_are_not_kept_up_with() -> None:
    lost = window(ON_TIME[1:], 2, 1_000, 3_000, 9_000)
    doubled = window([*ON_TIME, ON_TIME[0]], 2, 1_000, 3_000, 9_000)
    unfinished = window([*ON_TIME[1:], ON_TIME[0]._replace(is_finished=False)], 2, 1_000, 3_000, 9_000)
    late = window([arrival._replace(at=arrival.at + 1_500) for arrival in ON_TIME], 2, 1_000, 3_000, 9_000)
    assert (lost.lost, doubled.doubled, unfinished.finished, late.lost) == (1, 1, 3, 0)
    assert lost.late == [5.0, 5.0, 5.0, 6_000.0]
    assert not any(found.is_kept_up_with for found in (lost, doubled, unfinished, late))


def test_an_outcome_waits_until_it_is_answered() -> None:
    ledger = Ledger()
    attempts = [pb.Attempt(run_id=f"run-{number}", term=1) for number in range(2)]
    ledger.take(pb.Assignment(attempt=attempt, job="bench-runs-000000007", fire_at_ms=1_000) for attempt in attempts)
    ledger.settle([pb.ReportAnswer(attempt=attempts[0], verdict=pb.VERDICT_ACCEPTED)])
    assert [outcome.attempt for outcome in ledger.unanswered()] == ledger.held() == [attempts[1]]
    ledger.settle([pb.ReportAnswer(attempt=attempts[1], verdict=pb.VERDICT_SUPERSEDED)])
    counts = ledger.counts()
    assert (counts["arrived"], counts["accepted"], counts["superseded"], counts["waiting"]) == (2, 1, 1, 0)
    assert ledger.accepted == ["run-0"]
    assert [bool(accepted) for accepted in ledger.arrivals[FIELDS - 1 :: FIELDS]] == [True, False]
