"""Delayed messages over gRPC: delivered when due, recalled before, kept over a restart."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.client import Consumer, Message, Producer, Receipt
from broker.client.message import to_ms
from broker.daemon import build
from broker.errors import BadRequest, BrokerStopping, DelayTooLong, DiskFull, HandleUnknown, RecalledBefore
from broker.log.disk import Disk
from broker.model import TopicName
from broker.rpc.context import Context
from broker.rpc.transactions import TransactionCalls
from broker.settings import BrokerSettings
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb

pytestmark = pytest.mark.anyio

SOON = timedelta(seconds=1.5)  # enough for a few calls on a busy machine
NEVER = timedelta(days=6)


def after(delay: timedelta) -> datetime:
    return datetime.now(UTC) + delay


async def read(endpoint: str, count: int, group: str = "readers") -> list[bytes]:
    bodies: list[bytes] = []
    async with asyncio.timeout(20), Consumer(endpoint, group, ["t"]) as consumer:
        while len(bodies) < count:
            batch = await anext(consumer)
            bodies += [message.body for message in batch]
            await consumer.commit(batch)
    return bodies


async def test_a_delayed_message_comes_when_it_is_due(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        due = after(SOON)
        late, now = await producer.publish_batch("t", [Message(b"late", deliver_at=due), Message(b"now")])
        assert (late.offset, late.message_id, late.handle is None) == (-1, "", False)
        assert (now.offset, now.handle) == (0, None)
        async with asyncio.timeout(20), Consumer(endpoint, "readers", ["t"]) as consumer:
            (first,) = await anext(consumer)
            (second,) = await anext(consumer)
            assert datetime.now(UTC) >= due
    assert (first.body, second.body) == (b"now", b"late")
    assert second.published_at < due
    assert second.deliver_at is not None
    assert abs(second.deliver_at - due) < timedelta(milliseconds=1)


async def test_an_earlier_one_overtakes_and_one_in_the_past_is_not_delayed(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        later, sooner = after(2 * SOON), after(SOON)
        await producer.publish("t", Message(b"later", key="k", deliver_at=later))
        await producer.publish("t", Message(b"sooner", key="k", deliver_at=sooner))
        past = await producer.publish("t", Message(b"past", key="k", deliver_at=after(-SOON)))
        assert past.handle is None
        found = await read(endpoint, 3)
    assert found.index(b"sooner") < found.index(b"later")  # the one in the past may be late on a busy machine


async def test_a_recalled_message_never_comes(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        due = after(SOON)
        receipts = await producer.publish_batch("t", [Message(b"%d" % n, key="k", deliver_at=due) for n in range(4)])
        await producer.recall(receipts[1])
        with pytest.raises(HandleUnknown):
            await producer.recall(receipts[1])
        assert await read(endpoint, 3) == [b"0", b"2", b"3"]
        with pytest.raises(HandleUnknown):
            await producer.recall(receipts[0])
        with pytest.raises(BadRequest, match="not delayed"):
            await producer.recall(Receipt(0, 0, "id"))


async def test_what_was_due_while_the_broker_was_down_comes_after_its_start(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        due = after(SOON)
        messages = [Message(b"%d" % n, key="k", deliver_at=due) for n in range(3)]
        receipts = await producer.publish_batch("t", [*messages, Message(b"never", deliver_at=after(NEVER))])
        await producer.recall(receipts[1])
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        assert await read(endpoint, 2) == [b"0", b"2"]
        await producer.recall(receipts[3])


@pytest.mark.parametrize(
    ("deliver_at", "kind"),
    [(datetime(2300, 1, 1, tzinfo=UTC), DelayTooLong), (datetime(2300, 1, 1), BadRequest)],  # noqa: DTZ001
)
async def test_what_cannot_be_a_due_time_is_refused(
    tmp_path: Path, deliver_at: datetime, kind: type[Exception]
) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        with pytest.raises(kind):
            await producer.publish("t", Message(b"x", deliver_at=deliver_at))
        assert (await producer.publish("t", Message(b"y"))).offset == 0


async def test_a_recall_whose_answer_was_lost_is_asked_again_and_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recall, done = TransactionCalls.Recall, list[int]()

    async def recall_and_lose(calls: TransactionCalls, request: pb.RecallRequest, context: Context) -> object:
        await recall(calls, request, context)
        done.append(request.handle)
        raise BrokerStopping

    monkeypatch.setattr(TransactionCalls, "Recall", recall_and_lose)
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        receipt = await producer.publish("t", Message(b"x", deliver_at=after(NEVER)))
        await producer.recall(receipt)
        assert done == [receipt.handle]
        with pytest.raises(RecalledBefore):
            await producer.recall(receipt)


class SmallDisk(Disk):
    """Has room, or none."""

    has_room = True

    def free(self, path: Path) -> int:
        return 1 << 40 if self.has_room else 0


async def test_what_is_due_waits_for_room_on_the_disk(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        await producer.publish("t", Message(b"x", deliver_at=after(NEVER)))
    disk, settings = SmallDisk(), BrokerSettings.from_env(data=tmp_path, port=0)
    disk.has_room = False
    due_ms = to_ms(after(2 * NEVER))
    async with build(settings, disk=disk, clock=lambda: due_ms) as house, asyncio.TaskGroup() as group:
        group.create_task(house.run())
        for _ in range(2):
            with pytest.raises(DiskFull):
                await house.broker.delays.deliverer.run_once()
        topic, queues = house.broker.topics.get(TopicName("t"))
        assert (house.broker.describing.topic(topic).delayed, sum(queue.end_offset for queue in queues)) == (1, 0)
        disk.has_room = True
        assert await read(house.endpoints["grpc"], 1) == [b"x"]
        house.stop()
