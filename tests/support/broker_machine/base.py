"""What the parts of the machine share: one broker, one model of it, and looks at everything that both hold."""

from collections.abc import Iterable, Mapping, Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.broker import Broker
from broker.face.reading import Wanted
from broker.model import Fetched, GroupName, GroupPolicy, Steps, TopicName, TopicPolicy
from tests.support.broker_machine.lives import Lives
from tests.support.broker_model import At, Group, Model, Sent, Topic

ORDERS, NEWS = "orders", "news"
TOPIC_NAMES = (ORDERS, NEWS)
TOPICS = st.sampled_from(TOPIC_NAMES)
NEWS_KEPT_MS = 60_000
READERS, WORKERS = "readers", "workers"
"""Groups: one reads by offset, the other one by lease."""
ATTEMPTS, WAITS_MS, MOST_LEASED = 3, (1_000, 5_000), 12
POLICY = GroupPolicy(ATTEMPTS, Steps(WAITS_MS), 0.0, MOST_LEASED)


class Machine(RuleBasedStateMachine):
    """Begins with two topics and two groups that have read nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.lives = Lives()
        self.model = Model({ORDERS: Topic(2), NEWS: Topic(1, retention_ms=NEWS_KEPT_MS)})
        self.groups = {READERS: Group(), WORKERS: Group()}
        self.ask(self._begin())

    async def _begin(self) -> None:
        for name, topic in self.model.topics.items():
            await self.broker.topics.create(TopicName(name), topic.write_queues, policy_of(topic))
        for group in self.groups:
            await self.broker.groups.alter(GroupName(group), POLICY)

    @property
    def broker(self) -> Broker:
        return self.lives.broker

    @property
    def now_ms(self) -> int:
        return self.lives.now_ms

    @property
    def ask(self):  # type: ignore[no-untyped-def]  # a method of generic type, passed on
        return self.lives.ask

    @rule(milliseconds=st.sampled_from([1, 400, 1_000, 5_000, 20_000, 61_000, 600_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.lives.now_ms += milliseconds

    @rule()
    def stop_and_start(self) -> None:
        self.lives.stop()
        self.lives.open()
        self.compare_everything()

    @rule()
    def kill_and_start(self) -> None:
        self.lives.kill()
        self.lives.open()
        self.compare_everything()

    async def fetch(self, at: At, offset: int, *, group: str | None = None, most: int = 1_000) -> Fetched:
        name = GroupName(group) if group else None
        return await self.broker.reading.fetch(
            Wanted(TopicName(at[0]), at[1], offset, most, 1 << 20, 0.0, frozenset(), name)
        )

    async def tails(self, topics: Iterable[str] = TOPIC_NAMES) -> Mapping[At, Sequence[bytes]]:
        """The bodies behind what the model knows, by queue."""
        return {
            (name, queue): (await self.fetch((name, queue), end)).bodies
            for name in topics
            for queue, (_, end) in enumerate(self.model.topics[name].ranges)
        }

    @invariant()
    def queues_hold_what_they_should(self) -> None:
        for name, topic in self.model.topics.items():
            _, ranges = self.broker.topics.get(TopicName(name))
            found = [(held.lowest_offset, held.end_offset) for held in ranges]
            assert found == topic.ranges, f"{name} holds {found}, not {topic.ranges}"

    def compare_everything(self) -> None:
        """Every message of every queue is as the model has it: none is lost, none is there twice."""
        self.ask(self._compare_everything())

    async def _compare_everything(self) -> None:
        for name, topic in self.model.topics.items():
            gone = self.groups[name.rpartition("%")[2]].gone if name.startswith("%DLQ%") else set()
            for queue, (lowest, end) in enumerate(topic.ranges):
                fetched = await self.fetch((name, queue), lowest)
                kept = [offset for offset in range(lowest, end) if offset not in gone]
                stored = [topic.queues[queue][offset].sent for offset in kept]
                self.check_same(fetched, kept, stored)

    def check_same(self, fetched: Fetched, offsets: Sequence[int], sent: Sequence[Sent]) -> None:
        first = fetched.first_offset
        assert [*(fetched.offsets or range(first, first + len(fetched.bodies)))] == [*offsets]
        assert [*fetched.bodies] == [each.body for each in sent]
        assert [*(fetched.keys or [b""] * len(sent))] == [each.key.encode() for each in sent]
        ordered = {at for at, given in fetched.attributes.items() if given.ordered}
        assert ordered == {at for at, each in enumerate(sent) if each.ordered}

    def teardown(self) -> None:
        self.lives.close()


def policy_of(topic: Topic) -> TopicPolicy:
    from datetime import timedelta

    kept = None if topic.retention_ms is None else timedelta(milliseconds=topic.retention_ms)
    return TopicPolicy(retention=kept)
