"""How many messages a second come into each topic, from where its queues end now and ended before."""

from collections.abc import Mapping

from broker.groups.tally import Tally
from broker.model import QueueKey, QueueRange, TopicId


class PublishedRates:
    """Costs publishing nothing: looks at the queues now and then; for one thread."""

    def __init__(self) -> None:
        self._ends: dict[QueueKey, int] | None = None
        self._tallies: dict[TopicId, Tally] = {}

    def look(self, held: Mapping[QueueKey, QueueRange], now_ms: int) -> None:
        """Takes what all queues hold at this instant; what they held at the first look counts as long ago."""
        ends = {key: queue.end_offset for key, queue in held.items()}
        known = ends if self._ends is None else self._ends
        for key, end in ends.items():
            self._tallies.setdefault(key.topic_id, Tally()).add(end - known.get(key, 0), now_ms)
        self._ends = ends
        living = {key.topic_id for key in ends}
        self._tallies = {topic_id: tally for topic_id, tally in self._tallies.items() if topic_id in living}

    def per_second(self, topic_id: TopicId, now_ms: int) -> float:
        """The mean over the last minute."""
        tally = self._tallies.get(topic_id)
        return tally.per_second(now_ms) if tally else 0.0
