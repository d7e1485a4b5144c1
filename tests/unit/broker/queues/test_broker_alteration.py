"""What an order to change a topic makes of it."""

import pytest

from broker.errors import BadRequest, QueueNotDrained
from broker.model import Gate, GroupName, QueueRange, Topic, TopicId, TopicName, TopicPolicy
from broker.queues.altered.alteration import Alteration, Place, altered

TOPIC = Topic(TopicName("t"), TopicId(1), 4, 4)


def held(queue: int) -> QueueRange:
    """Ten messages in each of the first eight queues."""
    return QueueRange(0, 10 if queue < 8 else 0)


def test_nothing_named_changes_nothing() -> None:
    assert altered(TOPIC, Alteration(), held, []) == TOPIC


def test_more_write_queues_bring_as_many_read_queues_and_a_gate_each() -> None:
    topic = altered(TOPIC, Alteration(write_queues=12), held, [])
    assert (topic.write_queues, topic.read_queues) == (12, 12)
    assert topic.gates == tuple(Gate(queue, held(queue).end_offset, queue % 4, 10) for queue in range(4, 12))


def test_fewer_write_queues_leave_the_others_to_be_read() -> None:
    topic = altered(TOPIC, Alteration(write_queues=2), held, [])
    assert (topic.write_queues, topic.read_queues) == (2, 4)
    assert topic.gates == (Gate(0, 10, 2, 10), Gate(1, 10, 3, 10))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Alteration(write_queues=6), "multiplied or divided"),
        (Alteration(write_queues=3), "multiplied or divided"),
        (Alteration(write_queues=2_048), "1 to 1024"),
        (Alteration(read_queues=3), "4 to 4 read queues"),
        (Alteration(read_queues=5), "4 to 4 read queues"),
        (Alteration(write_queues=8, read_queues=4), "8 to 8 read queues"),
    ],
)
def test_what_cannot_be_is_refused(change: Alteration, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        altered(TOPIC, change, held, [])


def test_a_queue_goes_when_every_group_has_read_it() -> None:
    change = Alteration(write_queues=2, read_queues=2, policy=TopicPolicy(is_writable=False))
    read = [Place(GroupName(name), queue, 10) for name in ("fast", "slow") for queue in range(4)]
    places = [*read[:-1], Place(GroupName("slow"), 3, 9)]
    with pytest.raises(QueueNotDrained) as refused:
        altered(TOPIC, change, held, places)
    assert refused.value.fields == {"topic": "t", "queue": 3, "group": "slow", "offset": 9, "end": 10}
    with pytest.raises(QueueNotDrained, match="up to 0 of 10"):
        altered(TOPIC, change, held, read[:-1])
    with pytest.raises(BadRequest, match="t/2 holds 10 messages that no group has read"):
        altered(TOPIC, change, held, [])
    topic = altered(TOPIC, change, held, read)
    assert (topic.read_queues, topic.policy.is_writable) == (2, False)
