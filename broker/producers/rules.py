"""The rules of a producer (docs/decisions/0001-producers.md) as functions from its state to what may happen."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.errors import ProducerUnknown, SequenceGap, StaleTerm
from broker.model import HolderId, ProducerId

REMEMBERED = 64  # publishes whose ranges a duplicate still gets


@dataclass(frozen=True, slots=True)
class Producer:
    """Where a producer stands; `positions` are those of its last publishes in the log, the latest last."""

    term: int
    holder_id: HolderId
    last_sequence: int = 0
    cursor: bytes | None = None
    last_at_ms: int = 0
    positions: Sequence[int] = ()

    def position_of(self, sequence: int) -> int | None:
        """Where that publish is stored, if it is still remembered."""
        back = self.last_sequence - sequence
        return self.positions[-1 - back] if 0 <= back < len(self.positions) else None


class Verdict(enum.Enum):
    """What becomes of a publish that is not refused."""

    STORE = enum.auto()
    DUPLICATE = enum.auto()


def known(producer_id: ProducerId, state: Producer | None) -> Producer:
    """The state, if there is one. Raises ProducerUnknown."""
    if state is None:
        raise ProducerUnknown(producer_id=producer_id, reason="it was never opened here, or has been forgotten")
    return state


def check_holder(producer_id: ProducerId, state: Producer, term: int, holder_id: HolderId) -> None:
    """Raises StaleTerm for a lower term, and for the current one from another holder."""
    if term < state.term or (term == state.term and holder_id != state.holder_id):
        raise StaleTerm(producer_id=producer_id, term=term, current=state.term)


def judge_publish(
    producer_id: ProducerId, state: Producer | None, term: int, holder_id: HolderId, sequence: int
) -> Verdict:
    """Raises ProducerUnknown, StaleTerm, SequenceGap."""
    state = known(producer_id, state)
    check_holder(producer_id, state, term, holder_id)
    if term > state.term:
        raise ProducerUnknown(producer_id=producer_id, reason=f"term {term} was never opened here")
    expected = state.last_sequence + 1
    if sequence > expected:
        raise SequenceGap(producer_id=producer_id, sequence=sequence, expected=expected)
    return Verdict.STORE if sequence == expected else Verdict.DUPLICATE


def opened(state: Producer | None, term: int, holder_id: HolderId, at_ms: int) -> Producer:
    """The state behind a fence."""
    if state is None:
        return Producer(term, holder_id, last_at_ms=at_ms)
    return replace(state, term=term, holder_id=holder_id, last_at_ms=at_ms)


def published(state: Producer, sequence: int, cursor: bytes | None, at_ms: int, position: int) -> Producer:
    """The state behind a stored publish."""
    return Producer(
        state.term,
        state.holder_id,
        sequence,
        state.cursor if cursor is None else cursor,
        at_ms,
        (*state.positions[1 - REMEMBERED :], position),
    )
