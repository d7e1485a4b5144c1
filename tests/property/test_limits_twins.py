"""Stores answer as the one in memory does, which applies the rules to a dictionary and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.errors import ClaimHeld
from executor.limits.claims import OnceAll
from executor.limits.limits import Limits
from tests.support.limit_stores import Installation, installed

MINUTE = timedelta(minutes=1)
CLAIM, WINDOW = 5 * MINUTE, 10 * MINUTE
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Step:
    """What is done next to both."""

    verb: str
    keys: Sequence[str] = ()
    number: int = 0


KEYS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)
STEPS = st.lists(
    st.one_of(
        st.builds(Step, st.just("pass"), number=st.integers(1, 11)),
        st.builds(Step, st.sampled_from(["begin repeat", "begin skip"]), KEYS),
        st.builds(Step, st.sampled_from(["finish", "fail", "die"]), number=st.integers(0, 3)),
        st.builds(Step, st.just("take"), KEYS, st.integers(1, 3)),
        st.builds(Step, st.just("cap"), KEYS, st.integers(1, 3)),
    ),
    max_size=25,
)


class Side:
    """One of the two, with the claims that are under way there."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._limits: Limits = installation.open()
        self._open: list[OnceAll] = []

    def do(self, step: Step) -> object:
        match step.verb:
            case "pass":
                return self._installation.pass_time(step.number * MINUTE)
            case "take":
                waits = self._limits.take_all(step.keys, step.number, rate=2, per=14 * MINUTE, burst=3)
                return [round(wait / MINUTE) for wait in waits]
            case "cap":
                return self._limits.cap_all(step.keys, most=step.number, window=WINDOW)
            case "begin repeat" | "begin skip":
                return self._begin(step)
            case _:
                return self._end(step)

    def _begin(self, step: Step) -> object:
        unknown = "skip" if step.verb.endswith("skip") else "repeat"
        once = self._limits.once_all(step.keys, window=WINDOW, claim=CLAIM, unknown=unknown)
        fresh = once.__enter__()
        self._open.append(once)
        return list(fresh), list(fresh.held)

    def _end(self, step: Step) -> object:
        if not self._open:
            return None
        once = self._open.pop(step.number % len(self._open))
        try:
            match step.verb:
                case "finish":
                    once.__exit__(None, None, None)
                case "fail":
                    once.__exit__(RuntimeError, RuntimeError(), None)
        except ClaimHeld as held:
            return held.fields["key"], held.fields["count"]
        return None


@pytest.fixture(params=["postgresql", "redis"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with installed(request.param, request, tmp_path):  # skips here, not in the middle of an example
        yield request.param


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_every_store_answers_as_memory_does(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, steps: list[Step]
) -> None:
    with installed("memory", request, tmp_path) as model, installed(kind, request, tmp_path) as store:
        left, right = Side(model), Side(store)
        for step in steps:
            assert right.do(step) == left.do(step), step
