"""What the face is made of, and how it asks the engine."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

from broker.delivery.dead_letters import topic_of
from broker.delivery.waiters import Waiters
from broker.engine.commands import Command
from broker.engine.engine import Answer, Clock, Engine
from broker.engine.leasing.commands import Grave
from broker.errors import BrokerError, BrokerStopping, UnknownTopic
from broker.face.paces import Paces
from broker.groups.awake import AwakeTime
from broker.log.upkeep.scrubber import Scrubber
from broker.log.upkeep.space import Space
from broker.model import GroupName, LogId, QueueKey, Topic, TopicName, TopicQueue
from broker.queues.altered.gates import closed_from
from broker.queues.catalog import Catalog
from broker.writer import Writer

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Parts:
    """The broker's insides, shared by all that it offers. Belongs to one event loop."""

    log_id: LogId
    engine: Engine
    writer: Writer
    catalog: Catalog
    awake: AwakeTime
    waiters: Waiters
    clock: Clock
    disk_pool: Executor
    space: Space
    scrubber: Scrubber
    creates_topics: bool
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    paces: Paces = field(default_factory=Paces)

    async def topic(self, name: TopicName) -> Topic:
        """The topic, created on first use if that is on. Raises UnknownTopic, BadName."""
        topic = self.catalog.topics.get(name)
        if topic is not None:
            return topic
        if not self.creates_topics:
            raise UnknownTopic(topic=name)
        return await self.on_disk(self.catalog.topics.get_or_create, name)

    async def grave(self, group: GroupName) -> Grave:
        """Where the group's dead letters go; made when it is needed."""
        topic = await self.on_disk(self.catalog.topics.get_or_create_own, topic_of(group))
        return Grave(topic.topic_id, self.log_id)

    def readable_end(self, topic: Topic, number: int, group: GroupName) -> int:
        """Up to where (not including) the group may read a queue now: its end, or the gate that is still closed.

        The gates are looked up behind the end: what was stored after a change of the topic lies behind those it made.
        """
        committed = self.engine.grouping.committed
        return self._readable_end(topic, number, lambda at: committed(group, at) or 0)

    def readable_ends(self, topic: Topic, group: GroupName) -> list[int]:
        """As `readable_end`, of each queue: to look at all of a group for each gate would take seconds."""
        offsets = self.engine.grouping.offsets(group) if topic.gates else {}
        return [self._readable_end(topic, number, lambda at: offsets.get(at, 0)) for number in range(topic.read_queues)]

    def _readable_end(self, topic: Topic, number: int, committed: Callable[[TopicQueue], int]) -> int:
        queues = self.engine.queues
        end = queues.queue(QueueKey(topic.topic_id, number)).end
        gates = (self.catalog.topics.by_id(topic.topic_id) or topic).gates
        if not gates:
            return end
        limit = closed_from(
            gates,
            number,
            lambda other: committed(TopicQueue(topic.name, other)),
            lambda other: queues.queue(QueueKey(topic.topic_id, other)).lowest,
        )
        return end if limit is None else min(end, limit)

    def wake_gates(self, group: GroupName, names: Iterable[TopicName]) -> None:
        """The group has read further: gates of altered topics may be open now."""
        topics = map(self.catalog.topics.get, names)
        self.waiters.wake({(group, topic.topic_id) for topic in topics if topic is not None and topic.gates})

    async def on_disk(self, function: Callable[[*Given], Result], *given: *Given) -> Result:
        """Calls what blocks in a thread for that."""
        return await asyncio.get_running_loop().run_in_executor(self.disk_pool, function, *given)

    async def ask(self, command: Command) -> Answer:
        """The durable answer of the engine. Raises what it refuses with, and BrokerStopping."""
        self.check_not_stopping()
        return await self.finish(command)

    async def finish(self, command: Command) -> Answer:
        """As `ask`, also while the broker drains: for what ends something that was begun."""
        answer = await (await self.writer.submit(command))
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    async def is_stopping_within(self, seconds: float) -> bool:
        """Returns after so many seconds, or at once when the broker drains."""
        with suppress(TimeoutError):  # not by `asyncio.wait_for`, which may swallow a cancellation
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        return self.stopping.is_set()

    def check_not_stopping(self) -> None:
        """Raises BrokerStopping once the broker drains."""
        if self.stopping.is_set():
            raise BrokerStopping
