"""Where a group that leases begins with each queue of a topic."""

from collections.abc import Sequence
from typing import assert_never

from broker.face.parts import Parts
from broker.model import Edge, GroupName, QueueKey, Since, Start, Topic
from broker.queues.finding import offset_at


async def begins(parts: Parts, group: GroupName, topic: Topic, start: Start) -> Sequence[int]:
    """By queue; that of one which the group has read before counts for nothing.

    A queue that came to a topic which the group reads already is read from its beginning.
    """
    known = parts.engine.leasing.floors(group)
    keys = [QueueKey(topic.topic_id, queue) for queue in range(topic.read_queues)]
    if any(key in known for key in keys):
        start = Edge.EARLIEST
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
