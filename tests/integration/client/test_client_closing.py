"""Producers and consumers that are closed while somebody else waits for them: nobody waits for ever."""

import asyncio
import threading
from pathlib import Path

import pytest

import shardcast
from broker.client import Consumer, Message, Producer
from broker.errors import NotOpen
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from tests.support.fake_broker import FakeBroker, running_fake

pytestmark = pytest.mark.anyio

MESSAGES = [Message(b"x")]


@pytest.mark.parametrize("mode", ["offset", "lease"])
async def test_all_who_wait_for_a_batch_hear_that_the_consumer_is_closed(tmp_path: Path, mode: str) -> None:
    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint:
        async with Consumer(endpoint, "readers", ["t"], mode=mode) as consumer:  # type: ignore[arg-type]
            waiting = [asyncio.create_task(anext(consumer)) for _ in range(3)]
            await asyncio.sleep(0)
        heard = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in heard] == [NotOpen] * 3


@pytest.mark.parametrize("mode", ["offset", "lease"])
async def test_a_blocking_consumer_is_closed_while_another_thread_waits_for_a_batch(tmp_path: Path, mode: str) -> None:
    heard = list[Exception]()

    def read(consumer: shardcast.Consumer, begins: threading.Event) -> None:
        begins.set()
        try:
            next(consumer)
        except Exception as error:
            heard.append(error)

    def read_and_close(endpoint: str) -> None:
        begins = threading.Event()
        with shardcast.Consumer(endpoint, "readers", ["t"], mode=mode) as consumer:  # type: ignore[arg-type]
            reading = threading.Thread(target=read, args=(consumer, begins), daemon=True)
            reading.start()
            begins.wait()
        reading.join()

    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint:
        closing = threading.Thread(
            target=read_and_close, args=(endpoint,), daemon=True
        )  # a hanging one ends no test run
        closing.start()
        while closing.is_alive():
            await asyncio.sleep(0.01)
    assert [type(each) for each in heard] == [NotOpen]


async def test_who_waits_for_room_in_the_window_hears_that_the_producer_is_closed() -> None:
    broker, has_come = FakeBroker(), asyncio.Event()

    def break_off(_: pb.PublishRequest) -> None:
        has_come.set()

    broker.answer = break_off
    async with asyncio.timeout(30), running_fake(broker) as endpoint:
        async with Producer(endpoint, window=1) as producer:
            publishes = [asyncio.create_task(producer.publish_batch("t", MESSAGES)) for _ in range(3)]
            await has_come.wait()
        given_up, *waiting = await asyncio.gather(*publishes, return_exceptions=True)
    assert isinstance(given_up, asyncio.CancelledError)
    assert [type(each) for each in waiting] == [NotOpen, NotOpen]


async def test_topics_that_are_new_while_a_producer_closes_do_not_keep_it_open() -> None:
    async with asyncio.timeout(30), running_fake(FakeBroker()) as endpoint:
        async with Producer(endpoint) as producer:
            await producer.publish("t", MESSAGES[0])
            late = [asyncio.create_task(producer.publish(f"t{number}", MESSAGES[0])) for number in range(3)]
        refused = await asyncio.gather(*late, return_exceptions=True)
    assert [type(each) for each in refused] == [NotOpen] * 3


@pytest.mark.parametrize("mode", ["offset", "lease"])
async def test_a_consumer_that_is_closed_twice_is_closed(tmp_path: Path, mode: str) -> None:
    async with (
        asyncio.timeout(30),
        running_broker(tmp_path) as endpoint,
        Consumer(endpoint, "readers", ["t"], mode=mode) as consumer,  # type: ignore[arg-type]
    ):
        await consumer.__aexit__(None, None, None)


async def test_a_transaction_cannot_end_when_its_producer_is_closed_and_says_so(tmp_path: Path) -> None:
    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint:
        async with Producer(endpoint) as producer:
            committed, rolled_back = producer.transaction(), producer.transaction()
            for transaction in (committed, rolled_back):
                await transaction.__aenter__()
                await transaction.publish("t", MESSAGES[0])
        with pytest.raises(NotOpen):
            await committed.__aexit__(None, None, None)
        await rolled_back.__aexit__(ValueError, ValueError(), None)
