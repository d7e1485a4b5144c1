"""The broker is killed at random moments under load, again and again; then what it acknowledged is compared with what
is there: nothing lost, nothing twice, the order of each key kept, nothing committed handed out again."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from broker.client import Batch, Consumer, Message, Producer, Receipt, ShardProducer
from protos.broker.v1 import broker_pb2 as pb
from tests.support.broker_loads import (
    DelayedPublisher,
    LeaseGroup,
    OrderlyGroup,
    OrderlyPublisher,
    Transactor,
    World,
    fetch_all,
)
from tests.support.broker_process import BrokerProcess
from tests.support.proof_time import seconds

pytestmark = [pytest.mark.proof, pytest.mark.anyio]

SECONDS = seconds("broker kills")
KILLS = 50  # at least
TOPIC = "load"
KEYS = 8  # of each publisher
READERS = 2
_SEGMENT_BYTES = 16 << 20  # small: the log rolls under the load


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it is found at the end."""

    queue: int
    offset: int
    key: str
    number: int


class Loader(Protocol):
    """Something that uses the broker while it is killed, and then knows what must be there."""

    async def work(self) -> None:
        """Goes on until the world is stopping; waits while the broker is away."""
        ...

    async def finish(self) -> None:
        """Fails if something is lost, doubled or out of order, once nobody works any more."""
        ...


class Numbers:
    """Messages of one publisher: each key counts from 0."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self._chance = chance
        self._next: dict[str, int] = defaultdict(int)

    def some(self) -> list[Message]:
        """A batch of random size."""
        keys = self._chance.choices([f"{self.name}-{number}" for number in range(KEYS)], k=self._chance.randint(1, 200))
        return [self._message(key) for key in keys]

    def _message(self, key: str) -> Message:
        number = self._next[key]
        self._next[key] += 1
        return Message(str(number).encode().ljust(self._chance.choice((8, 200, 2_000))), key=key)

    def check(self, stored: Sequence[Stored]) -> None:
        """Every number of every key once, rising: all had been acknowledged when the load ended."""
        found: dict[str, list[int]] = defaultdict(list)
        for message in sorted(stored, key=lambda message: (message.queue, message.offset)):
            found[message.key].append(message.number)
        for key, count in self._next.items():
            assert found[key] == [*range(count)], f"{key}: {count} acknowledged, found {_gaps(found[key], count)}"


def _gaps(found: Sequence[int], count: int) -> str:
    missing = sorted(set(range(count)) - set(found))
    return f"{len(found)} of them, missing {missing[:5]}, twice {len(found) - len(set(found))}"


class PlainPublisher:
    """A producer for everybody: one batch after the other; receipts must name the places of the messages."""

    def __init__(self, name: str, world: World) -> None:
        self._world = world
        self._numbers = Numbers(name, world.chance)
        self._receipts: dict[tuple[str, int], Receipt] = {}

    async def work(self) -> None:
        async with Producer(self._world.endpoint) as producer:
            while not self._world.stopping.is_set():
                batch = self._numbers.some()
                receipts = await producer.publish_batch(TOPIC, batch)
                places = zip(batch, receipts, strict=False)  # none where the answer was lost and long ago
                self._receipts.update({(str(sent.key), int(sent.body)): receipt for sent, receipt in places})

    async def finish(self) -> None:
        stored = await read_all(self._world.endpoint)
        self._numbers.check(stored)
        found = {(message.key, message.number): (message.queue, message.offset) for message in stored}
        assert all(
            found[sent] == (receipt.queue, receipt.offset)
            for sent, receipt in self._receipts.items()
            if receipt.offset >= 0
        )


class ShardPublisher:
    """A shard's producer: several publishes in flight with cursors, taken over by a new term now and then."""

    def __init__(self, name: str, world: World) -> None:
        self._world = world
        self._name = name
        self._batches: list[list[Message]] = []
        self._numbers = Numbers(name, world.chance)

    async def work(self) -> None:
        term = 0
        while not self._world.stopping.is_set():
            term += 1
            await self._hold(term, publishes=self._world.chance.randint(5, 60))
        await self._hold(term + 1, publishes=0)

    async def _hold(self, term: int, publishes: int) -> None:
        """As a holder does: goes on behind the cursor, publishes, and leaves what is in flight in doubt."""
        holder = ShardProducer(self._world.endpoint, f"run/{self._name}/0", term=term, holder_id=f"{self._name}-{term}")
        async with holder as producer:
            done = int(producer.cursor or b"0")
            for number in range(done, max(done + publishes, len(self._batches) if not publishes else 0)):
                if number == len(self._batches):
                    self._batches.append(self._numbers.some())
                await producer.publish(TOPIC, self._batches[number], cursor=str(number + 1).encode())
            if not publishes:
                await producer.flush()

    async def finish(self) -> None:
        self._numbers.check(await read_all(self._world.endpoint))


class OffsetReader:
    """A member of a group that reads by offset: what was committed never comes again, to no member."""

    def __init__(self, world: World, committed: set[tuple[int, int]], seen: set[tuple[int, int]]) -> None:
        self._world = world
        self._committed = committed
        self._seen = seen

    async def work(self) -> None:
        async with Consumer(self._world.endpoint, "readers", [TOPIC]) as consumer:
            while not self._world.stopping.is_set():
                getting = asyncio.ensure_future(anext(consumer))
                stopping = asyncio.ensure_future(self._world.stopping.wait())
                await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if not getting.done():
                    getting.cancel()
                    return
                await self._take(consumer, getting.result())

    async def _take(self, consumer: Consumer, batch: Batch) -> None:
        places = {(batch.queue, offset) for offset in range(batch.first_offset, batch.next_offset)}
        again = places & self._committed
        assert not again, f"committed and handed out again: {sorted(again)[:5]}"
        self._seen |= places
        await consumer.commit(batch)
        self._committed |= places

    async def finish(self) -> None:
        stored = await read_all(self._world.endpoint)
        unknown = self._seen - {(message.queue, message.offset) for message in stored}
        assert not unknown, f"handed out but not there: {sorted(unknown)[:5]}"


async def read_all(endpoint: str) -> list[Stored]:
    """Every message of the topic, straight from its queues."""
    return [stored for queue, answer in await fetch_all(endpoint, TOPIC) for stored in _stored(queue, answer)]


def _stored(queue: int, answer: pb.FetchResponse) -> Iterator[Stored]:
    for place, (key, body) in enumerate(zip(answer.keys, answer.bodies, strict=True)):
        yield Stored(queue, answer.first_offset + place, key, int(body))


async def kill_again_and_again(broker: BrokerProcess, chance: random.Random) -> int:
    """Lets it live for a random moment, kills it, starts it again; at least so often, and for the time of the proof."""
    until, kills = time.monotonic() + SECONDS, 0
    while kills < KILLS or time.monotonic() < until:
        await asyncio.sleep(chance.uniform(0.05, 1.5))  # the moment of the kill is the experiment itself
        await broker.kill()
        await broker.start()
        kills += 1
    return kills


@pytest.mark.timeout(SECONDS + 900)
async def test_killed_under_load_the_broker_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    broker = BrokerProcess(tmp_path / "broker", segment_bytes=_SEGMENT_BYTES, checkpoint_bytes=4 << 20)
    await broker.start()
    world = World(broker.endpoint, chance)
    committed, seen = set[tuple[int, int]](), set[tuple[int, int]]()
    loaders: list[Loader] = [
        PlainPublisher("plain", world),
        ShardPublisher("shard", world),
        *(OffsetReader(world, committed, seen) for _ in range(READERS)),
        leases := LeaseGroup(world, "workers", TOPIC, members=2),
        OrderlyPublisher(world, "orders"),
        orders := OrderlyGroup(world, "orderly", "orders", members=2),
        DelayedPublisher(world, "later"),
        Transactor(world, "decided"),
    ]
    async with asyncio.TaskGroup() as group:
        for loader in loaders:
            group.create_task(loader.work())
        kills = await kill_again_and_again(broker, random.Random(seed + 1))
        world.stopping.set()
    for loader in loaders:
        await loader.finish()
    stored = await read_all(broker.endpoint)
    assert await broker.stop() == 0
    done = f"{len(leases.acknowledged)} and {len(orders.acknowledged)} acknowledged"
    print(f"{kills} kills, {len(stored)} messages stored, {len(committed)} committed, {done}")
    assert len(committed) > kills, "too little was read to prove anything"
    assert len(orders.acknowledged) > kills, "too little was leased to prove anything"
