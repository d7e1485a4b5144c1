"""What leaves an attempt: in order, with its cursor, and not at all once it is stopped."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from broker.errors import DelayTooLong
from executor.errors import BadCursor, Cancelled, CheckpointOrder, ScanRepeated
from executor.running.cancellation import Cancellation, Why
from executor.sharding.cursor import Position, ShardCursor
from executor.sharding.publish import ShardPublisher
from executor.testing import MemoryProducer
from protos.broker.v1 import broker_pb2 as pb

pytestmark = pytest.mark.anyio

ONE = [Message(b"1")]
TWO = [Message(b"1"), Message(b"2")]


class SlowProducer(MemoryProducer):
    """Acknowledges when it is told to, and lets a publish wait at the window."""

    def __init__(self, cursor: bytes | None = None) -> None:
        super().__init__(cursor=cursor)
        self.window = asyncio.Event()
        self.window.set()
        self.waiting: list[asyncio.Future[Receipts]] = []

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        await self.window.wait()
        await super().publish(topic, messages, cursor)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def acknowledge(self) -> None:
        self.waiting.pop(0).set_result(Receipts(pb.Published()))
        await asyncio.sleep(0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_publisher(
    producer: MemoryProducer, clock: Clock | None = None, lease: float = 10.0
) -> tuple[ShardPublisher, Cancellation]:
    cancellation = Cancellation(lease, clock or Clock())
    return ShardPublisher(producer, cancellation), cancellation


async def test_messages_and_cursor_leave_in_one_publish() -> None:
    producer = MemoryProducer()
    publisher, _ = a_publisher(producer)
    assert publisher.begin("users") == Position()
    await publisher.publish("t", TWO, publisher.hand_out("users", Position(7), 2))
    assert ShardCursor.decode(producer.cursor) == ShardCursor(rows=2, published=2, scans={"users": Position(7)})


async def test_a_takeover_goes_on_behind_the_cursor_and_goes_on_counting() -> None:
    kept = ShardCursor(rows=10, published=20, scans={"a": Position("x"), "b": Position(is_done=True)})
    producer = MemoryProducer(cursor=kept.encode())
    publisher, _ = a_publisher(producer)
    assert (publisher.begin("a"), publisher.begin("b")) == (Position("x"), Position(is_done=True))
    await publisher.publish("t", ONE, publisher.hand_out("a", Position("y"), 3))
    expected = ShardCursor(rows=13, published=21, scans={"a": Position("y"), "b": Position(is_done=True)})
    assert ShardCursor.decode(producer.cursor) == expected


async def test_what_an_attempt_gained_leaves_out_earlier_ones_and_never_falls() -> None:
    producer = SlowProducer(ShardCursor(rows=10, published=20).encode())
    publisher, _ = a_publisher(producer)
    publisher.begin("a")
    batch = publisher.hand_out("a", Position(7), 3)
    gains = [publisher.gained]
    await publisher.publish("t", TWO, batch)
    gains.append(publisher.gained)
    await producer.acknowledge()
    gains.append(publisher.gained)
    assert gains == [(3, 0), (3, 0), (3, 2)]


async def test_a_checkpoint_out_of_order_is_refused_before_anything_is_sent() -> None:
    producer = MemoryProducer()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    first, second = publisher.hand_out("s", Position(1), 1), publisher.hand_out("s", Position(2), 1)
    with pytest.raises(CheckpointOrder, match=r"Rows 1 to 1 of scan s .* row 0 is next"):
        await publisher.publish("t", ONE, second)
    assert producer.published == []
    await publisher.publish("t", ONE, first)
    with pytest.raises(CheckpointOrder):
        await publisher.publish("t", ONE, first)
    await publisher.publish("t", ONE, second)
    assert len(producer.published) == 2


async def test_an_empty_stretch_behind_what_is_not_published_yet_is_kept_with_it() -> None:
    producer = MemoryProducer()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    cursor = publisher.hand_out("s", Position(2), 2)
    await publisher.pass_over("s", Position(is_done=True))
    await publisher.publish("t", ONE, cursor.part(0, 1, Position(1)))
    assert ShardCursor.decode(producer.cursor) == ShardCursor(1, 1, {"s": Position(1)})
    await publisher.publish("t", ONE, cursor.part(1, 2, Position(2)))
    assert ShardCursor.decode(producer.cursor) == ShardCursor(2, 2, {"s": Position(is_done=True)})


async def test_a_stretch_that_was_passed_before_the_last_rows_says_nothing_about_them() -> None:
    producer = MemoryProducer()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    first = publisher.hand_out("s", Position(1), 1)
    await publisher.pass_over("s", Position(5))
    second = publisher.hand_out("s", Position(9), 1)
    await publisher.publish("t", ONE, first.join(second))
    assert ShardCursor.decode(producer.cursor) == ShardCursor(2, 1, {"s": Position(9)})


async def test_counters_follow_acknowledgements_only() -> None:
    producer = SlowProducer()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    for key in (1, 2):
        await publisher.publish("t", TWO, publisher.hand_out("s", Position(key), 2))
    assert publisher.state.published == 0
    await producer.acknowledge()
    assert (publisher.state.rows, publisher.state.published) == (2, 2)
    await producer.acknowledge()
    assert publisher.state == ShardCursor(rows=4, published=4, scans={"s": Position(2)})


async def test_a_refusal_says_which_rows_it_was_about() -> None:
    producer = SlowProducer()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    await publisher.publish("t", TWO, publisher.hand_out("s", Position(7), 2))
    refusal = DelayTooLong(deliver_at_ms=2, latest_ms=1)
    producer.waiting[0].set_exception(refusal)
    await asyncio.sleep(0)
    assert refusal.__notes__ == ["Refused were the messages of rows 0 to 1 of scan s, counted from 0, up to key 7."]


async def test_an_empty_stretch_is_kept_only_when_all_before_it_is() -> None:
    producer = MemoryProducer()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    cursor = publisher.hand_out("s", Position(1), 1)
    await publisher.pass_over("s", Position(100))
    assert producer.cursor is None
    await publisher.publish("t", ONE, cursor)
    await publisher.pass_over("s", Position(is_done=True))
    assert ShardCursor.decode(producer.cursor) == ShardCursor(1, 1, {"s": Position(is_done=True)})


async def test_nothing_leaves_after_the_lease_lapsed_while_the_process_slept() -> None:
    producer, clock = MemoryProducer(), Clock()
    publisher, _ = a_publisher(producer, clock)
    await publisher.publish("t", ONE)
    clock.now = 10.0
    with pytest.raises(Cancelled, match="lapsed"):
        await publisher.publish("t", ONE)
    with pytest.raises(Cancelled, match="lapsed"):
        await publisher.flush()
    assert len(producer.published) == 1


async def test_an_order_to_stop_ends_the_wait_for_a_broker_that_is_away() -> None:
    producer = SlowProducer()
    producer.window.clear()
    publisher, cancellation = a_publisher(producer)
    publishing = asyncio.ensure_future(publisher.publish("t", ONE))
    await asyncio.sleep(0)
    cancellation.request(Why.CANCELLED, "by hand")
    with pytest.raises(Cancelled, match="by hand"):
        await publishing
    assert producer.published == []


async def test_a_caller_that_stops_waiting_leaves_no_doubt_about_what_was_sent() -> None:
    producer = SlowProducer()
    producer.window.clear()
    publisher, _ = a_publisher(producer)
    publisher.begin("s")
    cursor = publisher.hand_out("s", Position(1), 1)
    publishing = asyncio.ensure_future(publisher.publish("t", ONE, cursor))
    await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    producer.window.set()
    with pytest.raises(CheckpointOrder):
        await publisher.publish("t", ONE, cursor)
    assert len(producer.published) == 1


async def test_a_scan_has_its_name_for_itself() -> None:
    publisher, _ = a_publisher(MemoryProducer())
    publisher.begin("s")
    with pytest.raises(ScanRepeated):
        publisher.begin("s")


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"rows":1,"published":1,"scans":{"s":{"after":1.5}}}'])
async def test_a_foreign_cursor_is_refused(data: bytes) -> None:
    with pytest.raises(BadCursor):
        a_publisher(MemoryProducer(cursor=data))


async def test_a_flush_waits_also_for_what_has_not_been_sent_yet() -> None:
    producer = SlowProducer()
    producer.window.clear()
    publisher, _ = a_publisher(producer)
    publishing = asyncio.ensure_future(publisher.publish("t", ONE))
    await asyncio.sleep(0)
    publishing.cancel()  # its caller stops waiting, the publish goes on
    await asyncio.wait((publishing,))
    flushing = asyncio.ensure_future(publisher.flush())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not flushing.done()
    producer.window.set()
    await flushing
    assert len(producer.published) == 1
