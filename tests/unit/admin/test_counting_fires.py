"""The count on which the long proof of several admins rests finds what is missing and what is there twice."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.counting_fires import accepted_terms, check_fires

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def fires(*seconds: float) -> Sequence[datetime]:
    return [FIRST + timedelta(seconds=each) for each in seconds]


def test_all_seconds_once_in_any_order_are_right() -> None:
    check_fires("job", fires(2, 0, 1), FIRST)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ((0, 1, 1, 2), "two runs for"),
        ((0, 2), "no run for .*0, 0, 1, "),
        ((0, 0.5, 1), "no run for"),
        ((1, 2), "began at"),
        ((), "no run at all"),
    ],
)
def test_what_is_wrong_is_told(seconds: Sequence[float], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_fires("job", fires(*seconds), FIRST)


def said(attempt: str, verdict: str = "VERDICT_ACCEPTED") -> str:
    return json.dumps({"action": "report_answered", "attempt": attempt, "verdict": verdict})


def test_one_term_of_a_run_is_acknowledged_however_often() -> None:
    logs = [f"{said('a/0#1')}\n{said('b/0#1', 'VERDICT_SUPERSEDED')}\nno JSON", f"{said('b/0#2')}\n{said('a/0#1')}"]
    assert accepted_terms(logs) == {"a": {1}, "b": {2}}
    with pytest.raises(AssertionError, match="acknowledged twice"):
        accepted_terms([*logs, said("a/0#3")])
