"""What a shard's producer sends on one stream and the next, and what it makes of every answer."""

import asyncio
from contextlib import nullcontext

import pytest

from broker.client import Message, Producer, ShardProducer
from broker.errors import Abandoned, NotOpen, ProducerUnknown, TooLarge
from protos.broker.v1 import broker_pb2 as pb
from protos.errors import PermissionDenied, ShardcastError
from tests.support.fake_broker import FakeBroker, running_fake, stored

pytestmark = pytest.mark.anyio

MESSAGES = [Message(b"x", key="k", properties={"a": "1"})]


def shard_producer(endpoint: str) -> ShardProducer:
    return ShardProducer(endpoint, "run/example/0", term=1, holder_id="holder")


def refused(request: pb.PublishRequest, code: str, **fields: str) -> pb.PublishResponse:
    return pb.PublishResponse(sequence=request.sequence, refusal=pb.Refusal(code=code, message=code, fields=fields))


async def test_a_new_stream_begins_at_the_first_unacknowledged_publish_with_the_same_bytes() -> None:
    broker = FakeBroker()
    broker.answer = lambda request: stored(request) if request.sequence == 1 or len(broker.streams) > 1 else None
    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        await (await producer.publish("t", MESSAGES, cursor=b"1"))
        for cursor in (b"2", b"3", b"4"):
            await producer.publish("t", MESSAGES, cursor=cursor)
        await producer.flush()
    assert broker.requests[-1] == [2, 3, 4]
    assert broker.streams[0][1:] == broker.streams[-1][: len(broker.streams[0]) - 1]


async def test_a_gap_makes_it_send_again_from_the_first_unacknowledged() -> None:
    broker = FakeBroker()

    def answer(request: pb.PublishRequest) -> pb.PublishResponse:
        is_gap = len(broker.streams) == 1 and request.sequence == 2
        return refused(request, "sequence_gap", expected="2") if is_gap else stored(request)

    broker.answer = answer
    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        for _ in range(3):
            await producer.publish("t", MESSAGES)
        await producer.flush()
    assert broker.requests[-1] == [2, 3]


async def test_a_gap_behind_what_was_acknowledged_is_a_lost_log() -> None:
    broker = FakeBroker()
    broker.answer = lambda r: stored(r) if r.sequence == 1 else refused(r, "sequence_gap", expected="1")
    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        await (await producer.publish("t", MESSAGES))
        await producer.publish("t", MESSAGES)
        with pytest.raises(ProducerUnknown):
            await producer.flush()


async def test_a_refusal_with_several_in_flight_ends_them_all_at_once() -> None:
    broker = FakeBroker()
    broker.answer = lambda r: stored(r) if r.sequence == 1 else refused(r, "too_large", what="w", size="2", limit="1")
    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        sent = [await producer.publish("t", MESSAGES) for _ in range(4)]
        await sent[0]
        with pytest.raises(TooLarge):
            await sent[1]
        assert [type(receipts.exception()) for receipts in sent[2:]] == [Abandoned, Abandoned]
        for _ in range(20):  # also when more is asked than the window holds
            with pytest.raises(TooLarge):
                await producer.publish("t", MESSAGES)
        with pytest.raises(TooLarge):
            await producer.flush()


@pytest.mark.parametrize("is_given_up", ["flush", "receipts"])
async def test_who_stops_waiting_makes_nothing_acknowledged(is_given_up: str) -> None:
    broker = FakeBroker()
    broker.answer = lambda request: None
    stored_sequences: list[int] = []

    def answer(request: pb.PublishRequest) -> pb.PublishResponse:
        stored_sequences.append(request.sequence)
        return stored(request)

    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        receipts = await producer.publish("t", MESSAGES)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.flush() if is_given_up == "flush" else receipts, 0.01)
        flushing = asyncio.create_task(producer.flush())
        _, waiting = await asyncio.wait((flushing,), timeout=0.05)
        assert waiting
        broker.answer = answer
        await flushing
    assert stored_sequences == [1]


async def test_an_answer_that_makes_no_sense_is_a_failure_and_no_silence() -> None:
    broker = FakeBroker()
    broker.answer = lambda request: pb.PublishResponse(sequence=99, published=pb.Published())
    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        await producer.publish("t", MESSAGES)
        with pytest.raises(ShardcastError):
            await producer.flush()


@pytest.mark.parametrize(
    "message", [Message(b"", key="k" * 900), Message(b"", tag="t" * 900), Message(b"", properties={"p": "v" * 900})]
)
async def test_what_is_too_large_by_anything_but_bodies_is_refused_before_it_is_sent(message: Message) -> None:
    broker = FakeBroker()
    async with asyncio.timeout(30), running_fake(broker) as endpoint, shard_producer(endpoint) as producer:
        with pytest.raises(TooLarge) as refusal:
            await producer.publish("t", [Message(b""), *[message] * 10_000])
        assert refusal.value.fields["limit"] == 8 << 20
    assert broker.streams == []


async def test_a_message_that_was_stored_before_has_a_receipt_without_a_place() -> None:
    broker = FakeBroker()
    broker.answer = lambda r: pb.PublishResponse(sequence=r.sequence, published=pb.Published(duplicate=True))
    async with asyncio.timeout(30), running_fake(broker) as endpoint, Producer(endpoint) as producer:
        receipt = await producer.publish("t", Message(b"x"))
    assert (receipt.queue, receipt.offset, receipt.message_id) == (-1, -1, "")


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_message_whose_stream_was_refused_is_refused_only_if_it_was_not_stored(is_stored: bool) -> None:
    broker = FakeBroker()

    def answer(request: pb.PublishRequest) -> pb.PublishResponse:
        if request.term == 1:
            broker.last_sequence = int(is_stored)
            raise PermissionDenied(reason="the token was changed")
        return stored(request)

    broker.answer = answer
    async with asyncio.timeout(30), running_fake(broker) as endpoint, Producer(endpoint) as producer:
        with nullcontext() if is_stored else pytest.raises(PermissionDenied):
            await producer.publish("t", Message(b"x"))
        assert broker.requests[1:] == []  # it is not sent again
        await producer.publish("t", Message(b"y"))
    assert broker.requests[1:] == [[1 + is_stored]]


class SlowBroker(FakeBroker):
    """Opens a second time only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = list[int]()
        self.is_asked, self.may_open = asyncio.Event(), asyncio.Event()

    async def OpenProducer(self, request: pb.OpenProducerRequest, context: object) -> pb.OpenProducerResponse:  # noqa: N802
        self.terms.append(request.term)
        if request.term == 2:
            self.is_asked.set()
            await self.may_open.wait()
        return await super().OpenProducer(request, context)


async def test_a_producer_that_is_closed_while_it_opens_anew_sends_nothing_more() -> None:
    broker = SlowBroker()
    broker.answer = lambda request: refused(request, "too_large", what="key", size="9", limit="1")
    async with asyncio.timeout(30), running_fake(broker) as endpoint:
        async with Producer(endpoint) as producer:
            with pytest.raises(TooLarge):
                await producer.publish_batch("t", MESSAGES)
            broker.answer = stored
            late = asyncio.create_task(producer.publish_batch("t", MESSAGES))
            await broker.is_asked.wait()
        broker.may_open.set()
        with pytest.raises(NotOpen):
            await late
    assert broker.requests == [[1]]


async def test_who_gives_up_while_a_silent_producer_opens_anew_leaves_that_to_the_next_one() -> None:
    """The broker may have heard the opening, or have forgotten the producer: nothing of the session before counts."""
    broker, now = SlowBroker(), [0.0]
    async with (
        asyncio.timeout(30),
        running_fake(broker) as endpoint,
        Producer(endpoint, clock=lambda: now[0]) as producer,
    ):
        await producer.publish_batch("t", MESSAGES)
        now[0] = 3_601.0
        given_up = asyncio.create_task(producer.publish_batch("t", MESSAGES))
        await broker.is_asked.wait()
        given_up.cancel()
        await asyncio.wait([given_up])
        await producer.publish_batch("t", MESSAGES)
    assert broker.terms == [1, 2, 3]
