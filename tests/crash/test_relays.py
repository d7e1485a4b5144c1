"""Processes that turn messages into messages are killed, frozen and drained, the broker is killed, and the topic grows:
each message leads to its messages exactly once, in the order of its key."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from broker.client import Consumer, GroupClient, Message, Producer
from broker.client.operating.topics import TopicClient
from broker.model import GroupPolicy, Steps
from protos.errors import Unreachable
from tests.support.broker_process import BrokerProcess
from tests.support.proof_time import seconds
from tests.support.relay_process import COPIES, SESSION, RelayProcess

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

T = TypeVar("T")

SECONDS = seconds("relays")
RELAYS = 3
KEYS = 40
FAULTS = ("killed", "frozen", "drained", "broker killed", "grown")


class Feed:
    """Publishes numbers of some keys to the topic, more and more, until it is to end."""

    def __init__(self, producer: Producer) -> None:
        self.count = 0
        self.is_ending = False
        self._producer = producer

    async def run(self) -> None:
        while not self.is_ending:
            numbers = range(self.count, self.count + 50)
            await self._producer.publish_batch("in", [Message(b"%d" % n, key=f"k{n % KEYS}") for n in numbers])
            self.count = numbers.stop
            await asyncio.sleep(0.02)  # its pace: there is work to do at every strike


class Fleet:
    """One broker and some relays, and what strikes them."""

    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        self.relays: list[RelayProcess] = []
        self.queues = 4
        self.struck: Counter[str] = Counter()

    async def start_one(self) -> None:
        relay = RelayProcess(self._broker.endpoint)
        await relay.start()
        self.relays.append(relay)

    async def strike(self, fault: str) -> None:
        at = self._chance.randrange(len(self.relays))
        match fault:
            case "killed":
                await self.relays.pop(at).kill()
                await self.start_one()
            case "drained":
                await self.relays.pop(at).drain()
                await self.start_one()
            case "frozen":
                self.relays[at].freeze()
                await asyncio.sleep(SESSION.total_seconds() * self._chance.uniform(0.5, 2.5))  # that is the experiment
                self.relays[at].thaw()
            case "broker killed":
                await self._broker.kill()
                await self._broker.start()
            case "grown" if self.queues < 16:
                self.queues *= 2
                async with TopicClient(self._broker.endpoint) as topics:
                    await patiently(lambda: topics.alter("in", write_queues=self.queues, read_queues=self.queues))
        self.struck[fault] += 1


@asynccontextmanager
async def running_fleet(directory: Path, chance: random.Random) -> AsyncIterator[tuple[Fleet, str]]:
    broker = BrokerProcess(directory / "data")
    await broker.start()
    fleet = Fleet(broker, chance)
    try:
        async with TopicClient(broker.endpoint) as topics:
            for topic in ("in", "out"):
                await topics.create(topic, 4)
        async with GroupClient(broker.endpoint) as groups:
            await groups.alter("relays", GroupPolicy(100, Steps((1,))))
        for _ in range(RELAYS):
            await fleet.start_one()
        yield fleet, broker.endpoint
    finally:
        for relay in fleet.relays:
            await relay.kill()
        await broker.stop()


async def prove(directory: Path, seed: int, next_fault: Callable[[random.Random, Counter[str]], str | None]) -> None:
    """Strikes whenever some more was published, until there is no next fault; then compares."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with running_fleet(directory, chance) as (fleet, endpoint), Producer(endpoint) as producer:
        feed = Feed(producer)
        feeding = asyncio.create_task(feed.run())
        while (fault := next_fault(chance, fleet.struck)) is not None:
            await until_stored(endpoint, await stored(endpoint) + chance.randrange(1, 1_000))
            await fleet.strike(fault)
        feed.is_ending = True
        await feeding
        await until_read(endpoint)
        check(await read(endpoint), feed.count)
    print(f"{feed.count} messages, {dict(fleet.struck)}")


def check(found: Sequence[Message], count: int) -> None:
    copies = Counter(message.body for message in found)
    assert {body for body, times in copies.items() if times > 1} == set(), "more than once"
    assert {b"%d %d" % (n, index) for n in range(count) for index in range(COPIES)} - copies.keys() == set(), "lost"
    assert len(copies) == count * COPIES
    by_key = defaultdict[str | None, list[int]](list)
    for message in found:
        by_key[message.key].append(int(message.body.split()[0]))
    assert all(numbers == sorted(numbers) for numbers in by_key.values()), "the order of a key was lost"


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """A channel may take a second to find a broker that is back."""
    while True:
        try:
            return await ask()
        except Unreachable:
            await asyncio.sleep(0.01)


async def stored(endpoint: str) -> int:
    async with TopicClient(endpoint) as topics:
        return sum(queue.end for queue in (await patiently(lambda: topics.get("out"))).queues)


async def until_stored(endpoint: str, count: int) -> None:
    async with asyncio.timeout(60):
        while await stored(endpoint) < count:
            await asyncio.sleep(0.01)


async def until_read(endpoint: str) -> None:
    async with asyncio.timeout(60), GroupClient(endpoint) as groups:
        while (await patiently(lambda: groups.get("relays"))).lag:
            await asyncio.sleep(0.01)


async def read(endpoint: str) -> Sequence[Message]:
    found: list[Message] = []
    end = await stored(endpoint)
    async with asyncio.timeout(60), Consumer(endpoint, "reader", ["out"]) as consumer:
        while len(found) < end:
            found += await consumer.__anext__()
    return found


@pytest.mark.timeout(120)
async def test_each_message_leads_to_its_messages_once_through_a_fault_of_each_kind(tmp_path: Path) -> None:
    def next_fault(chance: random.Random, struck: Counter[str]) -> str | None:
        left = [fault for fault in FAULTS if not struck[fault]]
        return chance.choice(left) if left else None

    await prove(tmp_path, random.SystemRandom().randrange(1 << 32), next_fault)


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 300)
async def test_each_message_leads_to_its_messages_once_through_many_faults(tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS

    def next_fault(chance: random.Random, struck: Counter[str]) -> str | None:
        is_enough = time.monotonic() >= end and all(struck[fault] for fault in FAULTS)
        return None if is_enough else chance.choice(FAULTS)

    await prove(tmp_path, random.SystemRandom().randrange(1 << 32), next_fault)
