"""Gates: equal keys keep their order in every group although a topic's number of write queues changes.

Why this is enough is told in docs/decisions/0003-queues.md. A topic's gates are listed in the order of their making,
and that order counts: a gate rests on older ones only.
"""

from collections.abc import Callable, Iterable, Sequence

from broker.model import Gate, QueueRange

Held = Callable[[int], QueueRange]
"""What a queue holds, by number; messages that are not visible yet counted."""

Offsets = Callable[[int], int]
"""An offset of each queue, by number."""


def with_gates(gates: Sequence[Gate], before: int, after: int, held: Held) -> list[Gate]:
    """The gates of a topic whose write queues become `after` instead of `before`; one is a multiple of the other."""
    known = without_open(gates, lambda queue: held(queue).lowest_offset)
    new = [Gate(to, held(to).end_offset, since, held(since).end_offset) for to, since in _moves(before, after)]
    return without_open(_united(known, new), lambda queue: held(queue).lowest_offset)


def clamped(gates: Sequence[Gate], held: Held) -> list[Gate]:
    """The gates after queues lost messages that were never durable: nothing refers beyond an end."""
    kept = list[Gate]()
    for gate in gates:
        offset = min(gate.offset, held(gate.queue).end_offset)
        required_offset = min(gate.required_offset, held(gate.required_queue).end_offset)
        kept = _united(kept, [Gate(gate.queue, offset, gate.required_queue, required_offset)])
    return kept


def _moves(before: int, after: int) -> list[tuple[int, int]]:
    """Where keys go, and where they come from."""
    if before < after:
        return [(queue, queue % before) for queue in range(before, after)]
    return [(queue % after, queue) for queue in range(after, before)]


def _united(known: Sequence[Gate], new: Sequence[Gate]) -> list[Gate]:
    """All of them, each once, and what the new ones inherit.

    A queue that is required up to where a gate of its own stands may be read so far with that gate still closed: what
    that one requires is required here too.
    """
    inherited = (
        Gate(gate.queue, gate.offset, older.required_queue, older.required_offset)
        for gate in new
        for older in known
        if older.queue == gate.required_queue and older.offset >= gate.required_offset
    )
    return [*dict.fromkeys([*known, *new, *(gate for gate in inherited if gate.queue != gate.required_queue)])]


def without_open(gates: Iterable[Gate], lowest: Offsets) -> list[Gate]:
    """The gates without those that nobody can stand before: nothing is left of what they require."""
    kept = list[Gate]()
    for gate in gates:
        rests_on_others = any(
            older.queue == gate.required_queue and older.offset < gate.required_offset for older in kept
        )
        if gate.required_offset > lowest(gate.required_queue) or rests_on_others:
            kept.append(gate)
    return kept


def closed_from(gates: Sequence[Gate], queue: int, committed: Offsets, lowest: Offsets) -> int | None:
    """The first offset of the queue that a group may not read yet; None: it may read them all.

    What a queue has dropped counts as read, once the group might have read it.
    """
    closed = (gate.offset for gate in gates if gate.queue == queue and not _is_open(gate, gates, committed, lowest))
    return min(closed, default=None)


def _is_open(gate: Gate, gates: Sequence[Gate], committed: Offsets, lowest: Offsets) -> bool:
    """Looks only at gates that were made before, so it ends.

    A group that stands where a queue begins may not have read there, but begun: then older gates tell.
    """
    done, begin = committed(gate.required_queue), lowest(gate.required_queue)
    if begin < gate.required_offset or begin < done:
        return done >= gate.required_offset
    return all(
        _is_open(older, gates, committed, lowest)
        for older in gates
        if older.queue == gate.required_queue and older.offset < gate.required_offset
    )
