"""Messages found by key and by time, over real gRPC and over a restart."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.daemon import build
from broker.errors import BadRequest, TopicPermission, UnknownTopic
from broker.settings import BrokerSettings
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed

pytestmark = pytest.mark.anyio

ME = {"producer_id": "producer/p", "term": 1, "holder_id": "h"}


class Clock:
    """Milliseconds, as a test sets them."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@asynccontextmanager
async def connected(data: Path, clock: Clock) -> AsyncIterator[BrokerServiceStub]:
    settings = BrokerSettings.from_env(data=data, port=0)
    async with build(settings, clock=clock) as house, dial(house.endpoints["grpc"]) as channel:
        yield BrokerServiceStub(channel)


async def publish(stub: BrokerServiceStub, sequence: int, keys: Iterable[str], topic: str = "orders") -> pb.Published:
    """One message a key, its body the sequence."""
    keys = list(keys)
    batch = pb.TopicBatch(topic=topic, bodies=[b"%d" % sequence] * len(keys), keys=keys, tags=["t"])
    batch.attributes.add(index=0, properties={"n": "1"})
    request = pb.PublishRequest(**ME, sequence=sequence, batches=[batch])
    [response] = [answer async for answer in stub.Publish(iter([request]))]
    assert response.WhichOneof("result") == "published", response
    return response.published


async def found(stub: BrokerServiceStub, key: str, most: int = 0, topic: str = "orders") -> list[bytes]:
    response = await stub.FindMessages(pb.FindMessagesRequest(topic=topic, key=key, max_messages=most))
    return [*response.messages.bodies]


async def test_messages_are_found_by_key_the_latest_first_also_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with connected(tmp_path, clock) as stub:
        await stub.OpenProducer(pb.OpenProducerRequest(**ME))
        await publish(stub, 1, ["a", "b", ""])
        await publish(stub, 2, ["a"], topic="others")
        await publish(stub, 3, ["a", "a"])
        assert await found(stub, "a") == [b"3", b"3", b"1"]
    async with connected(tmp_path, clock) as stub:
        assert await found(stub, "a", most=2) == [b"3", b"3"]
        assert await found(stub, "a", topic="others") == [b"2"]
        assert await found(stub, "c") == []
        with pytest.raises(UnknownTopic), renamed("broker"):
            await found(stub, "a", topic="missing")
        with pytest.raises(BadRequest), renamed("broker"):
            await found(stub, "")


async def test_a_found_message_is_whole_and_tells_where_it_stands(tmp_path: Path) -> None:
    async with connected(tmp_path, Clock()) as stub:
        await stub.OpenProducer(pb.OpenProducerRequest(**ME))
        [run] = (await publish(stub, 1, ["a"])).ranges
        response = await stub.FindMessages(pb.FindMessagesRequest(topic="orders", key="a"))
        messages = response.messages
        assert (response.topic_id, [*messages.queues], [*messages.offsets]) == (run.topic_id, [run.queue], [0])
        assert ([*messages.keys], [*messages.tags], [*messages.published_at_ms]) == (["a"], ["t"], [1_000])
        assert dict(messages.attributes[0].properties) == {"n": "1"}


async def test_offsets_are_found_by_time(tmp_path: Path) -> None:
    clock = Clock()
    async with connected(tmp_path, clock) as stub:
        await stub.OpenProducer(pb.OpenProducerRequest(**ME))
        for sequence in range(1, 4):
            clock.now_ms = 1_000 * sequence
            await publish(stub, sequence, [""] * 4)
        for at_ms, offset in ((0, 0), (1_000, 0), (1_001, 1), (3_000, 2), (3_001, 3)):
            request = pb.FindOffsetsRequest(topic="orders", at_ms=at_ms)
            assert [*(await stub.FindOffsets(request)).offsets] == [offset] * 4
        with pytest.raises(UnknownTopic), renamed("broker"):
            await stub.FindOffsets(pb.FindOffsetsRequest(topic="missing", at_ms=0))


async def test_a_topic_that_nobody_may_read_is_not_searched(tmp_path: Path) -> None:
    async with connected(tmp_path, Clock()) as stub:
        policy = pb.TopicPolicy(is_readable=False)
        await stub.CreateTopic(pb.CreateTopicRequest(name="orders", policy=policy))
        with pytest.raises(TopicPermission), renamed("broker"):
            await found(stub, "a")
