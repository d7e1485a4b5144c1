"""Clients that take no answers, or open too much: the broker's memory does not grow by them, and others go on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import grpc.aio
import pytest

from broker.broker import Broker
from broker.client import Message, Producer, Receipt
from broker.daemon import build
from broker.delivery.room import Room
from broker.errors import TooMany
from broker.model import HolderId, ProducerId, TopicName
from broker.rpc.bulk import BulkService
from broker.rpc.limits import Answer, ClientLimits
from broker.settings import BrokerSettings
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed
from protos.errors import Unreachable

pytestmark = pytest.mark.anyio

BODY = b"x" * (1 << 20)
FETCH = pb.FetchRequest(topic="t", max_bytes=1 << 20)
IN_FLIGHT = 256


class Call:
    """A call of a client that has not taken its answer until the test says so."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._when_done: list[Callable[[object], None]] = []

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> None:
        """It has no deadline."""

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._when_done.append(callback)

    def take(self) -> None:
        for callback in self._when_done:
            callback(self)


@asynccontextmanager
async def serving(data: Path) -> AsyncIterator[Broker]:
    """A broker with one message of a MiB in topic t."""
    async with build(BrokerSettings.from_env(data=data, port=0)) as house, asyncio.TaskGroup() as group:
        group.create_task(house.run())
        await house.broker.topics.create(TopicName("t"), 1, None)
        async with Producer(house.endpoints["grpc"]) as producer:
            await producer.publish("t", Message(BODY))
        yield house.broker
        house.stop()


async def fetch(service: BulkService, call: Call) -> pb.FetchResponse:
    return await service.Fetch(FETCH, cast(Any, call))


async def test_a_connection_that_takes_no_answers_gets_no_more_and_others_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as broker:
        service = BulkService(broker, ClientLimits(untaken_bytes=5 << 20))
        calls = [Call("dead") for _ in range(20)]
        fetches = [asyncio.create_task(fetch(service, call)) for call in calls]
        await asyncio.wait(fetches[:4])
        assert (await fetch(service, Call("alive"))).bodies == [BODY]
        done = [number for number, each in enumerate(fetches) if each.done()]
        assert len(done) in {4, 5}  # an answer is a little more than its body
        for call in calls:
            call.take()
        assert all([(await each).bodies == [BODY] for each in fetches])


async def test_what_a_client_reserved_is_free_when_it_has_gone() -> None:
    room = Room(10)
    first, second = Answer(room), Answer(room)
    await first.reserve(10)
    waiting = asyncio.create_task(second.reserve(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.end()
    await waiting
    second.end()
    second.is_made(7)  # it was made although nobody is there
    assert room.taken == 0


async def test_a_stream_whose_answers_nobody_takes_is_read_no_further(tmp_path: Path) -> None:
    asked = asyncio.Event()
    taken = 0

    async def requests() -> AsyncIterator[pb.PublishRequest]:
        nonlocal taken
        while taken < 10 * IN_FLIGHT:
            taken += 1
            yield pb.PublishRequest(producer_id="run/r/0", term=1, holder_id="h", sequence=taken, cursor=b"c")
            if taken > IN_FLIGHT:
                asked.set()

    async with serving(tmp_path) as broker:
        await broker.publishing.open_producer(ProducerId("run/r/0"), 1, HolderId("h"))
        answers = BulkService(broker).Publish(requests(), cast(Any, None))
        assert (await anext(answers)).sequence == 1  # and no other one
        await asyncio.wait_for(asked.wait(), 10)
        state = await broker.publishing.get_producer(ProducerId("run/r/0"))  # behind all that was taken
        assert state.last_sequence == IN_FLIGHT + 1
        assert taken == IN_FLIGHT + 2  # one more waits at the door
        await answers.aclose()


async def test_streams_and_reads_beyond_the_most_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as broker:
        service = BulkService(broker, ClientLimits(streams=1, reads=1))
        request = pb.FetchRequest(topic="t", offset=1, wait_ms=20_000)
        poll = asyncio.create_task(service.Fetch(request, cast(Any, Call("one"))))
        await asyncio.wait((poll,), timeout=0.1)
        with pytest.raises(TooMany, match="Too many reads: the limit is 1"):
            await fetch(service, Call("two"))
        poll.cancel()
        await asyncio.wait((poll,))
        assert (await fetch(service, Call("two"))).bodies


async def test_a_stream_too_many_is_refused_under_its_code(tmp_path: Path) -> None:
    end = asyncio.Event()

    async def one_request() -> AsyncIterator[pb.PublishRequest]:
        yield pb.PublishRequest()
        await end.wait()

    async with running_broker(tmp_path, publish_streams=1) as endpoint, dial(endpoint) as channel:
        stub = BrokerServiceStub(channel)
        first = stub.Publish(one_request())
        assert (await first.read()).refusal.code == "bad_request"
        with pytest.raises(TooMany), renamed(endpoint):
            await stub.Publish(one_request()).read()
        end.set()
        assert await first.read() is grpc.aio.EOF


async def test_a_connection_too_many_finds_nobody(tmp_path: Path) -> None:
    async with running_broker(tmp_path, connections=1) as endpoint, AsyncExitStack() as stack:
        own = [("grpc.use_local_subchannel_pool", 1)]
        first, second = (grpc.aio.insecure_channel(endpoint, options=own) for _ in range(2))
        for channel in (first, second):
            stack.push_async_callback(channel.close)
        await BrokerServiceStub(first).ListTopics(pb.ListTopicsRequest(), timeout=10)
        with pytest.raises(Unreachable), renamed(endpoint):
            await BrokerServiceStub(second).ListTopics(pb.ListTopicsRequest(), timeout=10)


async def test_more_messages_than_one_publish_may_have_are_refused(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        with pytest.raises(TooMany, match="messages in one publish: the limit is 65536"):
            await producer.publish_batch("t", [Message(b"") for _ in range(65_537)])
        given = [Message(b"", key="k", properties={"n": "1"}) for _ in range(65_536)]
        assert len(await producer.publish_batch("t", given)) == 65_536


async def test_a_producer_whose_stream_is_one_too_many_is_told_and_may_try_again(tmp_path: Path) -> None:
    async with running_broker(tmp_path, publish_streams=1) as endpoint, Producer(endpoint) as second:
        async with Producer(endpoint) as first, asyncio.timeout(20):
            await first.publish("t", Message(b"a"))
            with pytest.raises(TooMany, match="publish streams: the limit is 1"):
                await second.publish("t", Message(b"b"))
            with pytest.raises(TooMany):
                await second.publish_batch("t", [Message(b"b")])
        assert await published_at_last(second, Message(b"b")) is not None


async def published_at_last(producer: Producer, message: Message) -> Receipt:
    """The broker may not have seen yet that the other stream is over."""
    while True:
        with suppress(TooMany):
            return await producer.publish("t", message)
