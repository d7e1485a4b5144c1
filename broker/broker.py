"""The broker: the one place where async meets the engine. One method for each thing that can be asked of it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

from broker.delivery.reader import read_batch
from broker.delivery.waiters import Waiters
from broker.engine.commands import Command, ForgetProducer, ForgetSilent, GetProducer, OpenProducer, StorePublish
from broker.engine.engine import Answer, Clock, Engine
from broker.errors import (
    BrokerError,
    BrokerStopping,
    OffsetOutOfRange,
    TooLarge,
    UnknownQueue,
    UnknownTopic,
)
from broker.groups.coordinator import Coordinator
from broker.model import (
    Beat,
    BeatAnswer,
    Fetched,
    Forgotten,
    HolderId,
    LogId,
    Opened,
    ProducerId,
    Publish,
    QueueKey,
    QueueRange,
    Topic,
    TopicName,
)
from broker.producers.limits import CURSOR_BYTES, check_forgettable, check_identity, check_sequence, check_size
from broker.producers.rules import Producer
from broker.queues.catalog import Catalog
from broker.queues.encoding import EncodedRun, encode_batch
from broker.queues.placement import next_queue
from broker.queues.topics import DEFAULT_QUEUES, check_name
from broker.writer import Answering, Writer

PUBLISH_BYTES = 8 << 20  # of records in one publish
FETCH_BYTES = 8 << 20  # of records in one answer
FETCH_MESSAGES = 32_768

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages a fetch asks for, and how long it waits for the first one."""

    topic: TopicName
    queue: int
    offset: int
    max_messages: int
    max_bytes: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Parts:
    """What a broker is made of."""

    log_id: LogId
    engine: Engine
    writer: Writer
    catalog: Catalog
    groups: Coordinator
    waiters: Waiters
    clock: Clock
    disk_pool: Executor


class Broker:
    """Belongs to one event loop. Once `drain` was called, everything about producers raises BrokerStopping."""

    def __init__(self, parts: Parts, *, creates_topics: bool) -> None:
        self.log_id = parts.log_id
        self.groups = parts.groups
        self.stopping = asyncio.Event()
        self._parts = parts
        self._creates_topics = creates_topics
        self._next_queues: dict[TopicName, int] = {}

    def drain(self) -> None:
        """Long polls end with nothing, and nothing new is taken."""
        self.stopping.set()
        self._parts.waiters.wake_all()

    # Topics

    async def create_topic(self, name: TopicName, queues: int) -> Topic:
        """Raises BadName, BadRequest, TopicExists; 0 queues is the default number."""
        create = self._parts.catalog.topics.create
        return await self._on_disk(create, name, queues or DEFAULT_QUEUES)

    def get_topic(self, name: TopicName) -> tuple[Topic, list[QueueRange]]:
        """Raises UnknownTopic."""
        topic = self._parts.catalog.topics.get(name)
        if topic is None:
            raise UnknownTopic(topic=name)
        return topic, self._parts.catalog.of_topic(topic)

    def list_topics(self) -> list[tuple[Topic, list[QueueRange]]]:
        """By name."""
        catalog = self._parts.catalog
        return [(topic, catalog.of_topic(topic)) for topic in catalog.topics.list()]

    async def _topic(self, name: TopicName) -> Topic:
        """The topic, created on first use if that is on. Raises UnknownTopic, BadName."""
        topic = self._parts.catalog.topics.get(name)
        if topic is not None:
            return topic
        if not self._creates_topics:
            raise UnknownTopic(topic=name)
        return await self._on_disk(self._parts.catalog.topics.get_or_create, name)

    async def _on_disk(self, function: Callable[[*Given], Result], *given: *Given) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parts.disk_pool, function, *given)

    # Producers

    async def publish(self, request: Publish) -> Answering:
        """Returns once the request is on its way, in the order of the calls; its answer is done when durable.

        Raises BadName, BadRequest, TooLarge, UnknownQueue, UnknownTopic; other refusals are answers.
        """
        self._check_not_stopping()
        check_identity(request.producer_id, request.term, request.holder_id)
        check_sequence(request.sequence)
        check_size("cursor", request.cursor or b"", CURSOR_BYTES)
        stored_at_ms = self._parts.clock()
        runs = await self._encode(request, stored_at_ms)
        size = sum(len(run.records.data) for run in runs)
        if size > PUBLISH_BYTES:
            raise TooLarge(what="publish", size=size, limit=PUBLISH_BYTES)
        command = StorePublish(
            request.producer_id,
            request.term,
            request.holder_id,
            request.sequence,
            request.cursor,
            runs,
            stored_at_ms,
        )
        return await self._parts.writer.submit(command, size)

    async def _encode(self, request: Publish, stored_at_ms: int) -> list[EncodedRun]:
        runs: list[EncodedRun] = []
        for number, batch in enumerate(request.batches):
            topic = await self._topic(batch.topic)
            first = self._next_queues.get(topic.name, 0)
            runs += encode_batch(number, topic, batch, first, stored_at_ms)
            self._next_queues[topic.name] = next_queue(first, len(batch.bodies), topic.queues)
        return runs

    async def open_producer(self, producer_id: ProducerId, term: int, holder_id: HolderId) -> Opened:
        """Raises BadRequest, TooLarge, ProducerUnknown, StaleTerm."""
        check_identity(producer_id, term, holder_id)
        answer = await self._ask(OpenProducer(producer_id, term, holder_id))
        assert isinstance(answer, Opened)
        return answer

    async def get_producer(self, producer_id: ProducerId) -> Producer:
        """For display. Raises ProducerUnknown."""
        answer = await self._ask(GetProducer(producer_id))
        assert isinstance(answer, Producer)
        return answer

    async def forget_producer(self, name: str) -> int:
        """One producer, or all below a name that ends in "/"; returns how many there were. Raises BadRequest."""
        check_forgettable(name)
        return await self._forget(ForgetProducer(name))

    async def forget_silent(self) -> int:
        """Those that have outlived their time."""
        return await self._forget(ForgetSilent())

    async def _forget(self, command: ForgetProducer | ForgetSilent) -> int:
        answer = await self._ask(command)
        assert isinstance(answer, Forgotten)
        return answer.count

    async def _ask(self, command: Command) -> Answer:
        self._check_not_stopping()
        answer = await (await self._parts.writer.submit(command))
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    def _check_not_stopping(self) -> None:
        if self.stopping.is_set():
            raise BrokerStopping

    # Consumers

    async def fetch(self, wanted: Wanted) -> Fetched:
        """Raises OffsetOutOfRange, UnknownQueue, UnknownTopic; nothing in time is an empty answer."""
        loop = asyncio.get_running_loop()
        topic = await self._topic(wanted.topic)
        key = QueueKey(topic.topic_id, wanted.queue)
        until = loop.time() + wanted.wait_seconds
        while not self._has_messages(topic, wanted):
            if loop.time() >= until or self.stopping.is_set():
                queue = self._parts.engine.queues.queue(key)
                return Fetched(key.topic_id, wanted.offset, queue.lowest, wanted.offset)
            await self._parts.waiters.wait(key, until - loop.time())
        return await self._on_disk(self._read, key, wanted)

    def _has_messages(self, topic: Topic, wanted: Wanted) -> bool:
        if wanted.queue >= topic.queues:
            raise UnknownQueue(topic=topic.name, queue=wanted.queue, queues=topic.queues)
        queue = self._parts.engine.queues.queue(QueueKey(topic.topic_id, wanted.queue))
        if not queue.lowest <= wanted.offset <= queue.end:
            raise OffsetOutOfRange(
                offset=wanted.offset, topic=topic.name, queue=wanted.queue, lowest=queue.lowest, end=queue.end
            )
        return wanted.offset < queue.end

    def _read(self, key: QueueKey, wanted: Wanted) -> Fetched:
        engine = self._parts.engine
        return read_batch(
            engine.log,
            engine.queues.queue(key),
            key.topic_id,
            wanted.offset,
            max_messages=min(wanted.max_messages, FETCH_MESSAGES),
            max_bytes=min(wanted.max_bytes, FETCH_BYTES),
        )

    async def beat(self, sign: Beat) -> BeatAnswer:
        """Joins a group or stays in it. Raises BadName, UnknownTopic."""
        check_name(sign.group, "group")
        for name in sorted(sign.topics):
            await self._topic(name)
        return await self.groups.beat(sign)
