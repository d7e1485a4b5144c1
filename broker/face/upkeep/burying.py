"""The loop that buries messages whose last lease ran out, or whose group has fewer attempts now: nobody has to ask."""

import structlog

from broker.engine.leasing.commands import BurySpent, Moved
from broker.errors import BrokerStopping, DiskFull, QueueDamaged
from broker.face.parts import Parts
from broker.model import GroupName, Topic

log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0


class Burier:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run_once(self) -> int:
        """How many were buried. Raises BrokerStopping, and DiskFull while there is no room for copies."""
        parts, buried = self._parts, 0
        grouping, leasing = parts.engine.grouping, parts.engine.leasing
        for group in filter(grouping.leases, grouping.names()):
            for topic_id in leasing.spent(group, grouping.policy(group).attempts, parts.clock()):
                topic = parts.catalog.topics.by_id(topic_id)
                if topic is not None:
                    buried += await self._try(group, topic)
        return buried

    async def _try(self, group: GroupName, topic: Topic) -> int:
        """What cannot be read now is tried again with the next round."""
        try:
            return await self._bury(group, topic)
        except QueueDamaged as error:
            log.error("burying failed", action="burying_failed", group=group, topic=topic.name, error=str(error))
            return 0

    async def _bury(self, group: GroupName, topic: Topic) -> int:
        """All of one topic, a chunk at a time, so that publishes go on between."""
        parts, buried = self._parts, 0
        grave = await parts.grave(group)
        policy = parts.engine.grouping.policy(group)
        while True:
            parts.space.check()
            moved = await parts.ask(BurySpent(group, topic.name, topic.topic_id, policy, grave))
            assert isinstance(moved, Moved)
            if not moved.count:
                break
            buried += moved.count
        if buried:
            parts.waiters.wake([(group, topic.topic_id)])
        return buried

    async def run(self) -> None:
        """Until the broker stops."""
        while not await self._parts.is_stopping_within(EVERY_SECONDS):
            try:
                await self.run_once()
            except DiskFull:
                continue
            except BrokerStopping:
                return
