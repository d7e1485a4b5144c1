"""What an order to change a topic makes of it, or why it is refused."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from broker.errors import BadRequest, QueueNotDrained
from broker.model import GroupName, Topic, TopicPolicy
from broker.queues.altered.gates import Held, with_gates
from broker.queues.topics import check_policy, check_queues


@dataclass(frozen=True, slots=True)
class Alteration:
    """What to change; None: as it is."""

    write_queues: int | None = None
    read_queues: int | None = None
    policy: TopicPolicy | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a group has read a queue of the topic."""

    group: GroupName
    queue: int
    offset: int


def altered(topic: Topic, change: Alteration, held: Held, places: Iterable[Place]) -> Topic:
    """The topic as it is then. Raises BadRequest, QueueNotDrained.

    `places` are of every group that reads the topic; a queue that is not among a group's it has not read at all. A
    queue that goes takes along what it holds: every group has read that, and there is one at least.
    """
    write_queues = change.write_queues or topic.write_queues
    read_queues = change.read_queues or max(topic.read_queues, write_queues)
    if change.policy:
        check_policy(change.policy)
    _check_counts(topic, write_queues, read_queues)
    _check_drained(topic, read_queues, held, places)
    gates = with_gates(topic.gates, topic.write_queues, write_queues, held)
    return replace(
        topic,
        write_queues=write_queues,
        read_queues=read_queues,
        policy=change.policy or topic.policy,
        gates=tuple(gates),
    )


def _check_counts(topic: Topic, write_queues: int, read_queues: int) -> None:
    check_queues(write_queues)
    if write_queues % topic.write_queues and topic.write_queues % write_queues:
        raise BadRequest(
            reason=f"{topic.name} has {topic.write_queues} write queues: that can be multiplied or divided, so that "
            f"equal keys keep their order, but not become {write_queues}"
        )
    most = max(topic.read_queues, write_queues)
    if not write_queues <= read_queues <= most:
        raise BadRequest(reason=f"{topic.name} can have {write_queues} to {most} read queues, not {read_queues}")


def _check_drained(topic: Topic, read_queues: int, held: Held, places: Iterable[Place]) -> None:
    offsets = {(place.group, place.queue): place.offset for place in places}
    groups = sorted({group for group, _ in offsets})
    for queue in range(read_queues, topic.read_queues):
        lowest, end = held(queue).lowest_offset, held(queue).end_offset
        if not groups and lowest < end:
            raise BadRequest(reason=f"{topic.name}/{queue} holds {end - lowest} messages that no group has read")
        for group in groups:
            offset = max(lowest, offsets.get((group, queue), lowest))
            if offset < end:
                raise QueueNotDrained(topic=topic.name, queue=queue, group=group, offset=offset, end=end)
