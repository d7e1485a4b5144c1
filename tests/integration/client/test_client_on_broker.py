"""The client against a real broker over gRPC: what was acknowledged is there once, whatever is cut or restarted."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.client import Batch, Consumer, GroupClient, Message, Producer, Receipt, ShardProducer, TopicClient
from broker.errors import BadRequest, NotOpen, NotOwner, ProducerUnknown, StaleTerm, TooLarge, UnknownQueue
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial
from protos.errors import NotSupported, Unreachable

pytestmark = pytest.mark.anyio

RUN = "run/0197-example/0"


def shard_producer(endpoint: str, term: int, producer_id: str = RUN) -> ShardProducer:
    return ShardProducer(endpoint, producer_id, term=term, holder_id=uuid.uuid4().hex)


def messages(count: int, start: int = 0) -> list[Message]:
    return [Message(str(number).encode(), key=f"k{number}") for number in range(start, start + count)]


async def read(endpoint: str, topic: str, count: int, group: str = "readers") -> list[bytes]:
    """The first `count` bodies that a fresh member of the group gets, committed."""
    bodies: list[bytes] = []
    async with asyncio.timeout(20), Consumer(endpoint, group, [topic]) as consumer:
        while len(bodies) < count:
            batch = await anext(consumer)
            bodies += [message.body for message in batch]
            await consumer.commit(batch)
    return bodies


async def test_what_is_published_is_received_with_all_its_fields(tmp_path: Path) -> None:
    sent = Message(b"body", key="order-7", tag="coupon", properties={"shop": "12"}, ordered=True)
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        receipt = await producer.publish("orders", sent)
        async with Consumer(endpoint, "readers", ["orders"]) as consumer:
            (received,) = await anext(consumer)
    assert (received.body, received.key, received.tag) == (sent.body, sent.key, sent.tag)
    assert (dict(received.properties), received.ordered, received.topic) == ({"shop": "12"}, True, "orders")
    assert (received.queue, received.offset, received.message_id) == (receipt.queue, receipt.offset, receipt.message_id)


@pytest.mark.parametrize("keyed", [True, False])
async def test_receipts_say_where_each_message_is(tmp_path: Path, keyed: bool) -> None:
    sent = [Message(str(n).encode(), key=f"k{n}" if keyed else None) for n in range(50)]
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        receipts = await producer.publish_batch("t", sent)
        found: dict[str, bytes] = {}
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            while len(found) < 50:
                found |= {message.message_id: message.body for message in await anext(consumer)}
    assert [found[receipt.message_id] for receipt in receipts] == [message.body for message in sent]


@pytest.mark.parametrize("make", [Producer, lambda endpoint, **given: Consumer(endpoint, "g", ["t"], **given)])
async def test_a_broker_that_is_away_is_told_when_opening(make) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        async with make("127.0.0.1:1", connect_timeout=timedelta(milliseconds=200)):
            pass


@pytest.mark.parametrize("endpoint", ["", "localhost", "http://127.0.0.1:8081", "127.0.0.1:x", "127.0.0.1:0", ":8081"])
async def test_what_is_no_endpoint_is_refused_at_once(endpoint: str) -> None:
    for make in (lambda: Producer(endpoint), lambda: Consumer(endpoint, "g", ["t"])):
        with pytest.raises(BadRequest, match="host:port"):
            make()


async def test_another_systems_endpoint_is_told_apart() -> None:
    with pytest.raises(NotSupported):
        Producer("rocketmq://127.0.0.1:8081")


async def test_receipts_of_several_topics_come_in_the_order_of_the_messages(tmp_path: Path) -> None:
    sent = [Message(str(n).encode(), key=f"k{n}", topic=f"t{n % 3}" if n % 4 else None) for n in range(40)]
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        receipts = await producer.publish_batch("t", sent)
        found: dict[str, bytes] = {}
        async with Consumer(endpoint, "readers", ["t", "t0", "t1", "t2"]) as consumer:
            while len(found) < len(sent):
                found |= {message.message_id: message.body for message in await anext(consumer)}
    assert [found[receipt.message_id] for receipt in receipts] == [message.body for message in sent]


async def test_use_outside_the_block_is_refused(tmp_path: Path) -> None:
    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint:
        producer, consumer = Producer(endpoint), Consumer(endpoint, "g", ["t"])
        for _ in range(2):
            with pytest.raises(NotOpen):
                await producer.publish("t", Message(b"x"))
            with pytest.raises(NotOpen):
                await anext(consumer)
            async with producer, consumer:
                await producer.publish("t", Message(b"x"))


async def test_a_producer_that_was_forgotten_in_a_long_silence_goes_on(tmp_path: Path) -> None:
    now = [0.0]
    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint, dial(endpoint) as channel:
        async with Producer(endpoint, clock=lambda: now[0]) as producer:
            await producer.publish("t", Message(b"before"))
            forgotten = pb.ForgetProducerRequest(producer_id=producer._producer_id)
            assert (await BrokerServiceStub(channel).ForgetProducer(forgotten)).forgotten == 1
            now[0] = 3_601.0
            await producer.publish("t", Message(b"after"))
        assert sorted(await read(endpoint, "t", 2)) == [b"after", b"before"]


async def test_equal_keys_share_a_queue_in_order(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        receipts = [await producer.publish("t", Message(b"x", key="same")) for _ in range(5)]
    assert len({receipt.queue for receipt in receipts}) == 1
    assert [receipt.offset for receipt in receipts] == list(range(5))


async def test_a_refused_publish_fails_alone(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        with pytest.raises(TooLarge):
            await producer.publish("t", Message(b"x" * (9 << 20)))
        bad = producer.publish("no/such name", Message(b"x"))
        good = [producer.publish_batch("t", messages(10, start)) for start in range(0, 100, 10)]
        refused, *receipts = await asyncio.gather(bad, *good, return_exceptions=True)
        assert isinstance(refused, Exception)
        assert [len(each) for each in receipts if not isinstance(each, BaseException)] == [10] * 10
        bodies = await read(endpoint, "t", 100)
    assert sorted(bodies) == sorted(message.body for message in messages(100))


async def test_a_higher_term_fences_the_holder_before(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, shard_producer(endpoint, term=1) as late:
        await (await late.publish("t", messages(3), cursor=b"3"))
        async with shard_producer(endpoint, term=2) as current:
            assert (current.last_sequence, current.cursor) == (1, b"3")
            await late.publish("t", messages(3, 3), cursor=b"6")
            with pytest.raises(StaleTerm) as fenced:
                await late.flush()
            assert int(str(fenced.value.fields["current"])) == 2
            await (await current.publish("t", messages(3, 3), cursor=b"6"))
        bodies = await read(endpoint, "t", 6)
    assert sorted(bodies) == sorted(message.body for message in messages(6))


async def test_a_restart_of_the_broker_costs_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint:
        port = int(endpoint.rpartition(":")[2])
        producer = await shard_producer(endpoint, term=1).__aenter__()
        first = await producer.publish("t", messages(10))
        await first
    unanswered = [await producer.publish("t", messages(10, start)) for start in (10, 20, 30)]
    async with asyncio.timeout(20), running_broker(tmp_path, port=port):
        for receipts in unanswered:
            await receipts
        await producer.__aexit__(None, None, None)
        bodies = await read(endpoint, "t", 40)
    assert sorted(bodies) == sorted(message.body for message in messages(40))


async def test_a_broker_that_lost_its_data_is_told_apart(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "one") as endpoint:
        port = int(endpoint.rpartition(":")[2])
        producer = await shard_producer(endpoint, term=1).__aenter__()
        await (await producer.publish("t", messages(1)))
    async with asyncio.timeout(20), running_broker(tmp_path / "two", port=port):
        await producer.publish("t", messages(1, 1))
        with pytest.raises(ProducerUnknown):
            await producer.flush()
    await producer.__aexit__(None, None, None)


async def test_members_share_queues_and_hand_over_without_doubles(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def consume(consumer: Consumer) -> None:
        async for batch in consumer:
            seen.extend(message.body for message in batch)
            await consumer.commit(batch)

    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        await producer.publish_batch("t", messages(500))
        async with Consumer(endpoint, "readers", ["t"], max_messages=10) as first:
            reading = [asyncio.create_task(consume(first))]
            async with Consumer(endpoint, "readers", ["t"], max_messages=10) as second, GroupClient(endpoint) as groups:
                reading.append(asyncio.create_task(consume(second)))
                await _until(lambda state: len({queue.owner for queue in state.queues}) == 2, groups)
                await producer.publish_batch("t", messages(500, 500))
                await _until(lambda state: state.lag == 0, groups)
            for task in reading:
                task.cancel()
    assert sorted(seen) == sorted(message.body for message in messages(1000))


async def test_a_commit_of_a_lost_queue_is_refused(tmp_path: Path) -> None:
    async with asyncio.timeout(20), running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        await producer.publish_batch("t", messages(4))
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            batch = await anext(consumer)
            stale = Batch(
                batch.topic, batch.queue, batch.generation + 1, 0, batch.log_id, batch.topic_id, batch.columns
            )
            with pytest.raises(NotOwner):
                await consumer.commit(stale)


async def test_what_was_not_committed_comes_again(tmp_path: Path) -> None:
    async with asyncio.timeout(20), running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        sent = await producer.publish("t", Message(b"x", key="k"))
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            (unfinished,) = await anext(consumer)
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            (again,) = await anext(consumer)
    assert unfinished.message_id == again.message_id == sent.message_id


async def _until(holds, groups: GroupClient) -> None:  # type: ignore[no-untyped-def]
    """Asks the broker for the group's state until it is as wanted; the caller bounds the time."""
    while not holds(await groups.get("readers")):
        await asyncio.sleep(0.02)


async def test_a_refused_single_publish_hits_none_of_those_beside_it(tmp_path: Path) -> None:
    sent = [Message(str(number).encode(), key="k" * (2_000 if number == 7 else 5)) for number in range(100)]
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        publishes = (producer.publish("t", message) for message in sent)
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, TooLarge)] == [7]
        assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == 99
        assert sorted(await read(endpoint, "t", 99)) == sorted(m.body for m in sent if len(m.key or "") == 5)


async def test_what_is_given_up_is_committed_however_often_each_was_tried(tmp_path: Path) -> None:
    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        await producer.publish_batch("t", [Message(b"%d" % number, key="k") for number in range(5)])
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            batch = await anext(consumer)
            tried = [
                replace(message, attempt=attempt) for message, attempt in zip(batch[:4], (3, 1, 3, 3), strict=True)
            ]
            await consumer.give_up(*reversed(tried), error="no")
            await consumer.give_up(*tried, error="no")
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            assert [message.body for message in await anext(consumer)] == [b"4"]
        async with Consumer(endpoint, "undertakers", ["%DLQ%readers"]) as consumer:
            dead = await anext(consumer)
    assert [(message.body, message.properties["dead-letter-attempts"]) for message in dead] == [
        (b"0", "3"), (b"1", "1"), (b"2", "3"), (b"3", "3")
    ]  # fmt: skip


async def test_a_publisher_may_choose_the_queue(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        for queue in range(4):
            assert {receipt.queue for receipt in await producer.publish_batch("t", messages(9), queue=queue)} == {queue}
        with pytest.raises(UnknownQueue):
            await producer.publish_batch("t", messages(1), queue=4)
        with pytest.raises(BadRequest, match="a queue is a number from 0 on, not -1"):
            await producer.publish_batch("t", messages(1), queue=-1)
        await producer.publish("t", Message(b"the producer lives on"))


async def test_a_consumer_goes_on_when_its_topic_has_fewer_queues(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer, TopicClient(endpoint) as topics:
        await topics.create("t", 2)
        async with Consumer(endpoint, "readers", ["t"]) as consumer:
            await producer.publish_batch("t", messages(1), queue=1)
            await consumer.commit(await anext(consumer))  # it fetches from both by now
            await topics.alter("t", write_queues=1)
            await topics.alter("t", read_queues=1)
            for number in range(3):
                await producer.publish("t", Message(b"%d" % number))
                (received,) = await asyncio.wait_for(anext(consumer), 20)
                assert received.body == b"%d" % number
        assert len((await topics.get("t")).queues) == 1
