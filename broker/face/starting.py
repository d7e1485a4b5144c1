"""Where a group that leases begins with each queue of a topic, and up to where it may read now."""

from collections.abc import Sequence
from typing import assert_never

from broker.face.parts import Parts
from broker.model import Edge, GroupName, QueueKey, Since, Start, Topic, TopicQueue
from broker.queues.finding import offset_at
from broker.queues.gates import closed_from


async def begins(parts: Parts, group: GroupName, topic: Topic, start: Start) -> Sequence[int]:
    """By queue; that of one which the group has read before counts for nothing."""
    known = parts.engine.leasing.floors().get(group, {})
    keys = [QueueKey(topic.topic_id, queue) for queue in range(topic.read_queues)]
    return [0 if key in known else await _begin(parts, key, start) for key in keys]


async def _begin(parts: Parts, key: QueueKey, start: Start) -> int:
    engine = parts.engine
    queue = engine.queues.queue(key)
    match start:
        case Edge.EARLIEST:
            return queue.lowest
        case Edge.LATEST:
            return queue.end
        case Since(at_ms):
            return await parts.on_disk(offset_at, engine.log_index, queue, at_ms)
        case _:
            assert_never(start)


def ends(parts: Parts, group: GroupName, topic: Topic, begins: Sequence[int]) -> Sequence[int]:
    """By queue: its end, or the gate that is still closed."""
    queues = [parts.engine.queues.queue(QueueKey(topic.topic_id, number)) for number in range(topic.read_queues)]
    if not topic.gates:
        return [queue.end for queue in queues]

    def committed(number: int) -> int:
        known = parts.engine.grouping.committed(group, TopicQueue(topic.name, number))
        return begins[number] if known is None else known

    def lowest(number: int) -> int:
        return queues[number].lowest

    closed = [closed_from(topic.gates, number, committed, lowest) for number in range(len(queues))]
    return [queue.end if limit is None else min(queue.end, limit) for queue, limit in zip(queues, closed, strict=True)]
