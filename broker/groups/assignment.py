"""Which member should read which queue: balanced, with as few moves as possible, the same for the same input."""

from collections.abc import Iterable, Mapping

from broker.model import MemberId, TopicName, TopicQueue

Readers = Mapping[MemberId, frozenset[TopicName]]
"""The topics that each living member reads."""


def assign(
    queues: Iterable[TopicQueue], readers: Readers, owners: Mapping[TopicQueue, MemberId]
) -> dict[TopicQueue, MemberId]:
    """The desired owner of each queue that anybody reads.

    Owners keep what they have until one of them has at least two more than another reader of one of its queues.
    """
    held: dict[MemberId, list[TopicQueue]] = {member: [] for member in sorted(readers)}
    free = []
    for queue in sorted(queues):
        owner = owners.get(queue)
        if owner in held and queue.topic in readers[owner]:
            held[owner].append(queue)
        else:
            free.append(queue)
    for queue in free:
        if (lightest := _lightest(queue, readers, held)) is not None:
            held[lightest].append(queue)
    while (move := _next_move(readers, held)) is not None:
        queue, giver, taker = move
        held[giver].remove(queue)
        held[taker].append(queue)
    return {queue: member for member, owned in held.items() for queue in owned}


def _lightest(queue: TopicQueue, readers: Readers, held: Mapping[MemberId, list[TopicQueue]]) -> MemberId | None:
    """The reader of the queue that holds least, the first by name among equals."""
    candidates = (member for member in held if queue.topic in readers[member])
    return min(candidates, key=lambda member: len(held[member]), default=None)


def _next_move(
    readers: Readers, held: Mapping[MemberId, list[TopicQueue]]
) -> tuple[TopicQueue, MemberId, MemberId] | None:
    """A move that narrows the gap between two members; each makes the sum of squares smaller, so they end."""
    least = min(map(len, held.values()), default=0)
    for giver in sorted(held, key=lambda member: -len(held[member])):
        if len(held[giver]) - least < 2:  # nor has anybody behind it: as good as always the end of it
            return None
        for queue in reversed(held[giver]):
            taker = _lightest(queue, readers, held)
            if taker is not None and len(held[giver]) - len(held[taker]) >= 2:
                return queue, giver, taker
    return None
