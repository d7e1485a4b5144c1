"""What uses a broker while it is killed: members that lease, publishers of delayed messages, transactions."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from broker.client import Batch, Consumer, GroupClient, Message, Producer, ReceivedMessage, TopicClient
from broker.errors import LeaseExpired
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial

_LEASE = timedelta(seconds=60)  # longer than a word has to be said again: then it is in time
_LOOK_SECONDS = 1.0


@dataclass
class World:
    """What all that load the broker share; `stopping` asks them to end with what they have begun."""

    endpoint: str
    chance: random.Random
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def fetch_all(endpoint: str, topic: str) -> list[tuple[int, pb.FetchResponse]]:
    """Everything that a topic holds, straight from its queues: (queue, messages)."""
    found: list[tuple[int, pb.FetchResponse]] = []
    async with TopicClient(endpoint) as topics, dial(endpoint) as channel:
        stub = BrokerServiceStub(channel)
        for queue, held in enumerate((await topics.get(topic)).queues):
            offset = held.lowest
            while offset < held.end:
                request = pb.FetchRequest(topic=topic, queue=queue, offset=offset, max_messages=10_000)
                found.append((queue, await stub.Fetch(request)))
                offset += len(found[-1][1].bodies)
    return found


async def read_until(
    consumer: Consumer, is_over: Callable[[], Awaitable[bool]], take: Callable[[Batch], Awaitable[None]]
) -> None:
    """Takes batches until it is over, which is asked for whenever nothing came for a while, or much did."""
    getting, looked = asyncio.ensure_future(anext(consumer)), time.monotonic()
    while True:
        await asyncio.wait((getting,), timeout=_LOOK_SECONDS)
        if getting.done():
            await take(getting.result())
            getting = asyncio.ensure_future(anext(consumer))
        if time.monotonic() - looked > _LOOK_SECONDS:
            if await is_over():
                break
            looked = time.monotonic()
    getting.cancel()
    await asyncio.gather(getting, return_exceptions=True)


class LeaseGroup:
    """Members of a group that leases: what was acknowledged never comes again, attempts rise, nothing is left."""

    def __init__(self, world: World, name: str, topic: str, members: int) -> None:
        self._world = world
        self._name = name
        self._topic = topic
        self._members = members
        self._attempts: dict[tuple[int, int], int] = {}
        self.acknowledged: set[tuple[int, int]] = set()

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._members):
                group.create_task(self._read(self._is_stopping))

    async def finish(self) -> None:
        """Once nothing is published any more."""
        await self._read(self._has_read_all)
        stored = await fetch_all(self._world.endpoint, self._topic)
        places = {(queue, each.first_offset + at) for queue, each in stored for at in range(len(each.bodies))}
        assert self.acknowledged == places, f"{len(places)} stored, {len(self.acknowledged)} acknowledged"

    async def _is_stopping(self) -> bool:
        return self._world.stopping.is_set()

    async def _has_read_all(self) -> bool:
        async with GroupClient(self._world.endpoint) as groups:
            return (await groups.get(self._name)).lag == 0

    async def _read(self, is_over: Callable[[], Awaitable[bool]]) -> None:
        reading = Consumer(self._world.endpoint, self._name, [self._topic], mode="lease", lease=_LEASE)
        async with reading as consumer:
            await read_until(consumer, is_over, lambda batch: self._take(consumer, batch))

    async def _take(self, consumer: Consumer, batch: Batch) -> None:
        messages = [*batch]
        for message in messages:
            self._look(message)
        failing = [message for message in messages if self._world.chance.random() < 0.05]
        done = [message for message in messages if message not in failing]
        with suppress(LeaseExpired):
            await consumer.retry(*failing, after=timedelta(milliseconds=50), error="by chance")
        for message in done:
            self.say_done(message)
        heard = await asyncio.gather(*map(consumer.acknowledge, done), return_exceptions=True)
        for message, error in zip(done, heard, strict=True):
            if error is None:
                self.acknowledged.add((message.queue, message.offset))
            elif not isinstance(error, LeaseExpired):
                raise error

    def _look(self, message: ReceivedMessage) -> None:
        place = (message.queue, message.offset)
        known = self._attempts.get(place, 0)
        assert place not in self.acknowledged, f"{place} done in attempt {known} came in attempt {message.attempt}"
        assert message.attempt > known, f"{place}: attempt {message.attempt} came behind {known}"
        self._attempts[place] = message.attempt

    def say_done(self, message: ReceivedMessage) -> None:
        """From here on the broker may know it, whatever the member hears."""


class OrderlyGroup(LeaseGroup):
    """Of ordered messages of a key one comes only when all before it were said to be done."""

    def __init__(self, world: World, name: str, topic: str, members: int) -> None:
        super().__init__(world, name, topic, members)
        self._said = Counter[str]()

    def _look(self, message: ReceivedMessage) -> None:
        super()._look(message)
        said = self._said[str(message.key)]
        assert int(message.body) <= said, f"{message.key}: {int(message.body)} came before {said} was done"

    def say_done(self, message: ReceivedMessage) -> None:
        self._said[str(message.key)] = max(self._said[str(message.key)], int(message.body) + 1)


class OrderlyPublisher:
    """Ordered messages of few keys, each counts from 0."""

    def __init__(self, world: World, topic: str) -> None:
        self._world = world
        self._topic = topic
        self._next = Counter[str]()

    async def work(self) -> None:
        async with Producer(self._world.endpoint) as producer:
            while not self._world.stopping.is_set():
                keys = self._world.chance.choices("abcdefgh", k=self._world.chance.randint(1, 8))
                await producer.publish_batch(self._topic, [self._message(key) for key in keys])
                await asyncio.sleep(self._world.chance.uniform(0, 0.1))  # one at a time per key: readers are slower

    def _message(self, key: str) -> Message:
        self._next[key] += 1
        return Message(str(self._next[key] - 1).encode(), key=key, ordered=True)

    async def finish(self) -> None:
        """The group reads them all."""


class DelayedPublisher:
    """Delayed messages: each comes once, and none before its time."""

    def __init__(self, world: World, topic: str) -> None:
        self._world = world
        self._topic = topic
        self._sent = 0

    async def work(self) -> None:
        async with Producer(self._world.endpoint) as producer, asyncio.TaskGroup() as group:
            group.create_task(self._read())
            while not self._world.stopping.is_set():
                batch = [self._message() for _ in range(self._world.chance.randint(1, 50))]
                await producer.publish_batch(self._topic, batch)
                self._sent += len(batch)

    def _message(self) -> Message:
        due = datetime.now(UTC) + timedelta(milliseconds=self._world.chance.randint(1, 6_000))
        return Message(str(int(due.timestamp() * 1_000)).encode(), deliver_at=due)

    async def _read(self) -> None:
        async def is_over() -> bool:
            return self._world.stopping.is_set()

        async def take(batch: Batch) -> None:
            early = [message for message in batch if int(message.body) > time.time() * 1_000]
            assert not early, f"{len(early)} came before their time"

        async with Consumer(self._world.endpoint, "late-readers", [self._topic]) as consumer:
            await read_until(consumer, is_over, take)

    async def finish(self) -> None:
        """Once the last one was due."""
        async with TopicClient(self._world.endpoint) as topics:
            while (await topics.get(self._topic)).delayed:
                await asyncio.sleep(0.1)  # time itself is what is waited for
        stored = await fetch_all(self._world.endpoint, self._topic)
        found = sum(len(each.bodies) for _, each in stored)
        assert found == self._sent, f"{self._sent} sent, {found} delivered"


class Transactor:
    """Transactions over several publishes: committed ones are there once and whole, others not at all."""

    def __init__(self, world: World, topic: str) -> None:
        self._world = world
        self._topic = topic
        self._committed: list[bytes] = []
        self._count = 0

    async def work(self) -> None:
        async with Producer(self._world.endpoint) as producer:
            while not self._world.stopping.is_set():
                self._count += 1
                bodies = [b"%d-%d" % (self._count, at) for at in range(self._world.chance.randint(1, 20))]
                is_good = self._world.chance.random() < 0.7
                with suppress(_RolledBack):
                    await self._transact(producer, bodies, is_good)
                    self._committed += bodies

    async def _transact(self, producer: Producer, bodies: list[bytes], is_good: bool) -> None:
        async with producer.transaction(check=lambda _: False) as transaction:
            for body in bodies:
                await transaction.publish(self._topic, Message(body, key=body.decode()))
            if not is_good:
                raise _RolledBack

    async def finish(self) -> None:
        stored = await fetch_all(self._world.endpoint, self._topic)
        found = Counter(body for _, each in stored for body in each.bodies)
        expected = Counter(self._committed)
        assert found == expected, f"lost {[*(expected - found)][:5]}, too much {[*(found - expected)][:5]}"


class _RolledBack(Exception):
    """Decided by the publisher."""
