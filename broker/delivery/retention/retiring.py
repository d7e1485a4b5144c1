"""The engine's room of retention: moves the lowest offsets of queues, as far as no group needs what lies before.

It appends nothing: the checkpoint holds the lowest offsets, and what it does not know of yet is still stored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from broker.delivery.retention.rules import Hold, QueueFacts, kept_from
from broker.groups.membership import Group
from broker.groups.retention import needed
from broker.log.commit_log import CommitLog
from broker.model import QueueKey, QueueRange, TopicQueue
from broker.queues.builder import QueueBuilder
from broker.queues.topics import Topics


@dataclass(frozen=True, slots=True)
class RetireMessages:
    """Drop what lies before these offsets; a group holds what it has not read for so long after its last member."""

    outlived: Mapping[QueueKey, int]
    groups_hold_for: timedelta


@dataclass(frozen=True, slots=True)
class Retired:
    """So many messages are not offered any more; `holds` are of what is not in a queue, as it was then.

    Nothing is known of what came later, at `end` of the log and behind it.
    """

    messages: int
    holds: Sequence[Hold]
    end: int


class Retiring:
    """`do` is for the writer's thread; any may look at `facts` and `holds`."""

    def __init__(
        self,
        log: CommitLog,
        queues: QueueBuilder,
        topics: Topics,
        groups: Callable[[], Sequence[Group]],
        others: Sequence[Callable[[], Hold | None]],
    ) -> None:
        """`others` tell what they need of the log; None: nothing."""
        self._log = log
        self._queues = queues
        self._topics = topics
        self._groups = groups
        self._others = others
        self.is_ahead = False
        """Whether the lowest offsets have moved since somebody took them down for the checkpoint."""

    def do(self, command: RetireMessages, now_ms: int) -> Retired:
        retired = 0
        for queue in self.facts(command, now_ms):
            lowest = kept_from(queue)
            retired += lowest - queue.held.lowest_offset
            self._queues.queue(queue.key).drop_before(lowest)
        self.is_ahead |= retired > 0
        return Retired(retired, self.holds(), self._log.written)

    def holds(self) -> list[Hold]:
        """Of what is not in a queue; as durable as what was answered before."""
        return [hold for other in self._others if (hold := other()) is not None]

    def facts(self, command: RetireMessages, now_ms: int) -> list[QueueFacts]:
        """Of every queue of every topic, as it is just now."""
        groups, facts = self._groups(), list[QueueFacts]()
        for topic in self._topics.list():
            for number in range(topic.read_queues):
                key, at = QueueKey(topic.topic_id, number), TopicQueue(topic.name, number)
                queue = self._queues.queue(key)
                held, need = QueueRange(queue.lowest, queue.end), needed(groups, at, now_ms, command.groups_hold_for)
                facts.append(QueueFacts(key, at, held, command.outlived.get(key, 0), need))
        return facts
