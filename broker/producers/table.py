"""All producers of a broker: their states, the tombstones of the forgotten, and who has been silent for too long."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from broker.errors import ProducerUnknown
from broker.log.payload import Fence, PublishHead
from broker.model import HolderId, ProducerId
from broker.producers.rules import Producer, Verdict, check_holder, judge_publish, opened, published

PLAIN_PREFIX = "producer/"  # of ids that a plain producer makes at random and opens with term 1 first
LIVES = {PLAIN_PREFIX: timedelta(hours=1), "run/": timedelta(days=30)}
"""How long producers of these kinds are kept in silence. A group's goes on after any pause: its state is its place."""

_LIVES_MS = {prefix: life // timedelta(milliseconds=1) for prefix, life in LIVES.items()}


@dataclass(frozen=True, slots=True)
class ProducersSnapshot:
    """All producers at one position of the log."""

    states: Mapping[ProducerId, Producer]
    tombstones: frozenset[str]


class Producers:
    """For the writer's thread alone: the states run ahead of what is durable until the group is."""

    def __init__(self, snapshot: ProducersSnapshot) -> None:
        self._states = dict(snapshot.states)
        self._tombstones = set(snapshot.tombstones)

    def get(self, producer_id: ProducerId) -> Producer | None:
        return self._states.get(producer_id)

    def below(self, prefix: str) -> list[tuple[ProducerId, Producer]]:
        """Those whose ids begin so."""
        return [(known, state) for known, state in self._states.items() if known.startswith(prefix)]

    def judge_open(self, producer_id: ProducerId, term: int, holder_id: HolderId) -> bool:
        """Whether a fence is needed; not when this holder has this term. Raises ProducerUnknown, StaleTerm."""
        if any(name in self._tombstones for name in _names(producer_id)):
            raise ProducerUnknown(producer_id=producer_id, reason="it has been forgotten")
        state = self._states.get(producer_id)
        if state is None:
            if term > 1 and producer_id.startswith(PLAIN_PREFIX):
                raise ProducerUnknown(producer_id=producer_id, reason="it has been forgotten")
            return True
        check_holder(producer_id, state, term, holder_id)
        return term > state.term

    def judge_publish(self, producer_id: ProducerId, term: int, holder_id: HolderId, sequence: int) -> Verdict:
        """Raises ProducerUnknown, StaleTerm, SequenceGap."""
        return judge_publish(producer_id, self._states.get(producer_id), term, holder_id, sequence)

    def apply_fence(self, fence: Fence, at_ms: int) -> None:
        """What a stored fence changes."""
        producer_id = ProducerId(fence.producer_id)
        state = self._states.get(producer_id)
        self._states[producer_id] = opened(state, fence.term, HolderId(fence.holder_id), at_ms)

    def apply_publish(self, head: PublishHead, at_ms: int, position: int) -> None:
        """What a stored publish changes."""
        producer_id = ProducerId(head.producer_id)
        state = self._states[producer_id]
        self._states[producer_id] = published(state, head.sequence, head.cursor, at_ms, position)

    def apply_forget(self, name: str) -> int:
        """What a stored forget changes; returns how many producers it dropped.

        A plain producer leaves no tombstone, or every short-lived script would leave one for ever: its id is random and
        its first term is 1, so a higher one is refused as one that has been forgotten.
        """
        below = [name] if not name.endswith("/") else [known for known in self._states if known.startswith(name)]
        dropped = [self._states.pop(ProducerId(known), None) for known in below]
        if not name.startswith(PLAIN_PREFIX):
            self._tombstones.add(name)
        return len(dropped) - dropped.count(None)

    def silent(self, now_ms: int) -> list[ProducerId]:
        """Those whose last open or publish lies further back than the life of their kind."""
        return [
            known
            for known, state in self._states.items()
            for prefix, life_ms in _LIVES_MS.items()
            if known.startswith(prefix) and now_ms - state.last_at_ms > life_ms
        ]

    def snapshot(self) -> ProducersSnapshot:
        return ProducersSnapshot(dict(self._states), frozenset(self._tombstones))


def _names(producer_id: ProducerId) -> Iterable[str]:
    """The id and every prefix of it that ends in "/"."""
    yield producer_id
    at = producer_id.find("/")
    while at >= 0:
        yield producer_id[: at + 1]
        at = producer_id.find("/", at + 1)
