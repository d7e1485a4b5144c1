"""Gates one by one; tests/property/test_broker_gates.py holds them against a model."""

from collections.abc import Mapping

from broker.model import Gate, QueueRange
from broker.queues.altered.gates import Held, Offsets, clamped, closed_from, with_gates, without_open


def offsets(by_queue: Mapping[int, int]) -> Offsets:
    return lambda queue: by_queue.get(queue, 0)


def holding(ends: Mapping[int, int]) -> Held:
    return lambda queue: QueueRange(0, ends.get(queue, 0))


NOTHING = offsets({})
GROWN = with_gates([], 2, 4, holding({0: 7, 1: 9}))
"""Two queues with messages became four."""


def test_a_new_queue_waits_for_the_one_that_its_keys_were_in() -> None:
    assert [Gate(2, 0, 0, 7), Gate(3, 0, 1, 9)] == GROWN
    assert closed_from(GROWN, 3, offsets({0: 7, 1: 8}), NOTHING) == 0
    assert closed_from(GROWN, 3, offsets({1: 9}), NOTHING) is None
    assert closed_from(GROWN, 0, NOTHING, NOTHING) is None


def test_a_queue_that_gets_keys_back_waits_for_those_that_go() -> None:
    gates = with_gates([], 6, 2, holding(dict.fromkeys(range(6), 5)))
    assert gates == [Gate(queue % 2, 5, queue, 5) for queue in range(2, 6)]
    assert closed_from(gates, 0, offsets({2: 5, 4: 4}), NOTHING) == 5


def test_a_queue_passes_on_what_it_still_waits_for() -> None:
    """Nothing was published between: to have read queue 2 up to its end says nothing of queue 0."""
    gates = with_gates(GROWN, 4, 8, holding({0: 7, 1: 9}))
    assert Gate(6, 0, 0, 7) in gates
    assert closed_from(gates, 6, NOTHING, NOTHING) == 0
    assert closed_from(gates, 6, offsets({0: 7}), NOTHING) is None


def test_altering_to_and_fro_without_a_message_adds_nothing() -> None:
    held = holding({0: 7, 1: 9})
    once = with_gates(with_gates(GROWN, 4, 2, held), 2, 4, held)
    assert with_gates(with_gates(once, 4, 2, held), 2, 4, held) == once


def test_what_is_dropped_counts_as_read_only_once_it_might_have_been_read() -> None:
    """Queue 3 lost its only message, so a new group begins behind it; queue 1, where its key was before, did not."""
    gates = [Gate(3, 0, 1, 9), Gate(0, 7, 3, 1)]
    begun, lowest = {3: 1}, offsets({3: 1})
    assert closed_from(gates, 0, offsets(begun), lowest) == 7
    assert closed_from(gates, 0, offsets({**begun, 1: 9}), lowest) is None


def test_a_gate_goes_when_nobody_can_stand_before_it() -> None:
    gates = [Gate(3, 0, 1, 9), Gate(0, 7, 3, 1)]
    assert without_open(gates, offsets({3: 1})) == gates  # the second one rests on the first
    assert without_open(gates, offsets({1: 9})) == gates[1:]
    assert without_open(gates, offsets({1: 9, 3: 1})) == []


def test_gates_never_refer_beyond_an_end_and_then_pass_on_what_that_queue_waits_for() -> None:
    gates = [Gate(3, 0, 1, 9), Gate(0, 7, 3, 1)]
    assert clamped(gates, holding({0: 6, 1: 8, 3: 0})) == [Gate(3, 0, 1, 8), Gate(0, 6, 3, 0), Gate(0, 6, 1, 8)]
