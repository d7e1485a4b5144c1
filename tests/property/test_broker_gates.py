"""Equal keys keep their order for every group, whatever happens to the number of a topic's queues."""

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from broker.errors import BadRequest, QueueNotDrained
from broker.model import GroupName, QueueRange, Topic, TopicId, TopicName
from broker.queues.altered.alteration import Alteration, Place, altered
from broker.queues.altered.gates import clamped, closed_from
from broker.queues.placement import place

KEYS = [b"%d" % number for number in range(12)]
MOST = 16


@dataclass
class Reader:
    """A group: where it stands in each queue, and the last message it saw of each key."""

    name: GroupName
    done: dict[int, int] = field(default_factory=dict)
    seen: dict[bytes, int] = field(default_factory=lambda: defaultdict(int))


class Queues(RuleBasedStateMachine):
    """A topic in plain lists; messages are (key, number), numbers rise by key with each publish."""

    def __init__(self) -> None:
        super().__init__()
        self.topic = Topic(TopicName("t"), TopicId(1), 4, 4)
        self.messages: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        self.lowest: dict[int, int] = defaultdict(int)
        self.published = 0
        self.groups: list[Reader] = []

    def held(self, queue: int) -> QueueRange:
        return QueueRange(self.lowest[queue], len(self.messages[queue]))

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=8))
    def publish(self, keys: list[bytes]) -> None:
        for run in place(len(keys), keys, self.topic.write_queues, 0):
            self.messages[run.queue] += [(keys[index], self.published + index + 1) for index in run.indexes]
        self.published += len(keys)

    @rule(write=st.sampled_from([None, 1, 2, 3, 4, 6, 8, 12, 16]), read=st.none() | st.integers(1, MOST))
    def alter(self, write: int | None, read: int | None) -> None:
        places = [Place(group.name, queue, self.at(group, queue)) for group in self.groups for queue in range(MOST)]
        before = self.topic
        try:
            self.topic = altered(before, Alteration(write, read), self.held, places)
        except (BadRequest, QueueNotDrained):
            return
        for queue in range(self.topic.read_queues, before.read_queues):
            self.lowest[queue] = len(self.messages[queue])

    @rule()
    def join(self) -> None:
        if len(self.groups) < 3:
            self.groups.append(Reader(GroupName(f"g{len(self.groups)}")))

    @precondition(lambda self: self.groups)
    @rule(group=st.integers(0, 2), queue=st.integers(0, MOST - 1), count=st.integers(1, 5))
    def read(self, group: int, queue: int, count: int) -> None:
        if queue < self.topic.read_queues:
            self.take(self.groups[group % len(self.groups)], queue, count)

    @rule(queue=st.integers(0, MOST - 1), count=st.integers(0, 3))
    def lose_what_was_not_durable(self, queue: int, count: int) -> None:
        """A crash: messages at the end that no group has seen and nobody was promised are gone."""
        seen = max((group.done.get(queue, 0) for group in self.groups), default=0)
        kept = max(len(self.messages[queue]) - count, seen, self.lowest[queue])
        del self.messages[queue][kept:]
        self.topic = Topic(
            self.topic.name, self.topic.topic_id, self.topic.write_queues, self.topic.read_queues,
            gates=clamped(self.topic.gates, self.held),
        )  # fmt: skip

    @rule(queue=st.integers(0, MOST - 1), count=st.integers(1, 3))
    def retire(self, queue: int, count: int) -> None:
        """Retention: the oldest messages go, read or not."""
        self.lowest[queue] = min(self.lowest[queue] + count, len(self.messages[queue]))

    def at(self, group: Reader, queue: int) -> int:
        return max(group.done.get(queue, 0), self.lowest[queue])

    def take(self, group: Reader, queue: int, count: int) -> int:
        """Reads as far as the gates let it; each key's messages must come in the order of their publishing."""
        begin = self.at(group, queue)
        limit = closed_from(self.topic.gates, queue, lambda other: group.done.get(other, 0), self.lowest.__getitem__)
        taken = self.messages[queue][begin : begin + count]
        if limit is not None:
            taken = taken[: max(0, limit - begin)]
        for key, number in taken:
            assert number > group.seen[key], f"{key!r}: {number} behind {group.seen[key]}"
            group.seen[key] = number
        group.done[queue] = begin + len(taken)
        return len(taken)

    def teardown(self) -> None:
        """Every group can read everything: no gate stays closed for ever."""
        for group in self.groups:
            while any(self.take(group, queue, 1_000) for queue in range(self.topic.read_queues)):
                pass
            ends = [len(self.messages[queue]) for queue in range(self.topic.read_queues)]
            assert [self.at(group, queue) for queue in range(self.topic.read_queues)] == ends


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
