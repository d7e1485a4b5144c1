"""The states of a promotion as a table; docs/marketing.md draws it. There is no other way to change one."""

from collections.abc import Mapping
from enum import StrEnum

from examples.marketing.errors import WrongState


class State(StrEnum):
    SAVED = "saved"  # not yet on its way; may still be changed
    RUNNING = "running"
    PAUSED = "paused"  # by somebody
    HELD = "held"  # by itself: too many of its canaries failed
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (State.COMPLETED, State.CANCELLED)

    @property
    def is_resting(self) -> bool:
        """Whether its messages are to wait."""
        return self in (State.PAUSED, State.HELD)


class Verb(StrEnum):
    LAUNCH = "launch"
    PAUSE = "pause"
    HOLD = "hold"
    RESUME = "resume"
    CANCEL = "cancel"
    COMPLETE = "complete"


TRANSITIONS: Mapping[tuple[State, Verb], State] = {
    (State.SAVED, Verb.LAUNCH): State.RUNNING,
    (State.SAVED, Verb.CANCEL): State.CANCELLED,
    (State.RUNNING, Verb.PAUSE): State.PAUSED,
    (State.RUNNING, Verb.HOLD): State.HELD,
    (State.RUNNING, Verb.CANCEL): State.CANCELLED,
    (State.RUNNING, Verb.COMPLETE): State.COMPLETED,
    (State.PAUSED, Verb.RESUME): State.RUNNING,
    (State.PAUSED, Verb.CANCEL): State.CANCELLED,
    (State.HELD, Verb.RESUME): State.RUNNING,
    (State.HELD, Verb.CANCEL): State.CANCELLED,
    (State.COMPLETED, Verb.LAUNCH): State.RUNNING,  # those that failed are sent again
}


def step(promotion_id: int, state: State, verb: Verb) -> State:
    """Raises WrongState."""
    try:
        return TRANSITIONS[state, verb]
    except KeyError:
        raise WrongState(promotion_id=promotion_id, state=state.value, verb=verb.value) from None
