import itertools

import pytest

from examples.marketing.errors import WrongState
from examples.marketing.promotions.states import TRANSITIONS, State, Verb, step


@pytest.mark.parametrize(("state", "verb"), list(itertools.product(State, Verb)))
def test_a_state_changes_by_the_table_alone(state: State, verb: Verb) -> None:
    if (state, verb) in TRANSITIONS:
        assert step(7, state, verb) is TRANSITIONS[state, verb]
    else:
        with pytest.raises(WrongState, match=f"Promotion 7 is {state}: {verb} is not possible"):
            step(7, state, verb)


def test_what_is_cancelled_stays_so_and_every_other_state_can_be_left() -> None:
    left = {state for state, _ in TRANSITIONS}
    assert left == set(State) - {State.CANCELLED}


def test_every_state_is_reached_from_saved() -> None:
    reached = {State.SAVED}
    for _ in State:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(State)


def test_a_state_either_rests_or_is_final_or_neither() -> None:
    assert {state for state in State if state.is_resting} == {State.PAUSED, State.HELD}
    assert {state for state in State if state.is_final} == {State.COMPLETED, State.CANCELLED}
