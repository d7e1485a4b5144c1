"""The broker is killed while delayed messages fall due and transactions end: each is there once, each whole."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.client import Consumer, Message, Producer, TopicClient
from tests.support.broker_process import BrokerProcess

pytestmark = pytest.mark.anyio

BATCHES, SIZE, KILLS = 24, 500, 3


async def read(endpoint: str, topic: str, count: int, group: str) -> list[bytes]:
    """The first `count` bodies of a topic, from its beginning."""
    bodies: list[bytes] = []
    async with asyncio.timeout(60), Consumer(endpoint, group, [topic]) as consumer:
        while len(bodies) < count:
            bodies += [message.body for message in await anext(consumer)]
    return bodies


async def held(endpoint: str, topic: str) -> int:
    async with TopicClient(endpoint) as topics:
        return (await topics.get(topic)).messages


async def test_killed_while_messages_fall_due_each_is_delivered_once(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "broker")
    await broker.start()
    begin = datetime.now(UTC) + timedelta(seconds=1)
    async with Producer(broker.endpoint) as producer:
        for number in range(BATCHES):
            due = begin + timedelta(milliseconds=100 * number)
            bodies = range(number * SIZE, (number + 1) * SIZE)
            receipts = await producer.publish_batch(
                "delayed", [Message(b"%d" % body, key=str(body), deliver_at=due) for body in bodies]
            )
        await producer.recall(receipts[0])
    for kill in range(KILLS):
        await read(broker.endpoint, "delayed", (kill + 1) * 3 * SIZE, f"watchers-{kill}")
        await broker.kill()
        await broker.start()
    wanted = Counter(b"%d" % body for body in range(BATCHES * SIZE) if body != (BATCHES - 1) * SIZE)
    assert Counter(await read(broker.endpoint, "delayed", wanted.total(), "readers")) == wanted
    assert await held(broker.endpoint, "delayed") == wanted.total()
    assert await broker.stop() == 0


async def test_killed_while_transactions_end_each_is_visible_whole_and_once(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "broker")
    await broker.start()

    async def transact(producer: Producer, number: int) -> None:
        async with producer.transaction() as transaction:
            for part in range(3):
                await transaction.publish("whole", Message(b"%d/%d" % (number, part), key=str(part)))

    async with Producer(broker.endpoint) as producer, asyncio.TaskGroup() as group:
        for number in range(KILLS * 25):
            group.create_task(transact(producer, number))
            if number % 25 == 24:
                await read(broker.endpoint, "whole", 3, f"watchers-{number}")
                await broker.kill()
                await broker.start()
    wanted = Counter(b"%d/%d" % (number, part) for number in range(KILLS * 25) for part in range(3))
    assert Counter(await read(broker.endpoint, "whole", wanted.total(), "readers")) == wanted
    assert await held(broker.endpoint, "whole") == wanted.total()
    assert await broker.stop() == 0
