"""What rows lead to is gathered, sent in units, and told by row when it cannot be sent."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from broker.errors import BadRequest, NotOpen, TooLarge
from executor.errors import Cancelled, Fail, PublisherBroken, Retry, RowFailed, Skip
from executor.running.cancellation import Cancellation, Why
from executor.running.context import Context
from executor.sharding import units
from executor.sharding.cursor import Position, ShardCursor
from executor.sharding.table.questions import Row
from executor.sharding.units import Limits, Made
from executor.testing import MemoryProducer, run_local
from protos.errors import InvalidArgument
from tests.support.rows import Clock, LocalShard, some_rows

pytestmark = pytest.mark.anyio


class Units(MemoryProducer):
    """Keeps what came together, and tells."""

    def __init__(self) -> None:
        super().__init__()
        self.units: list[list[str | None]] = []
        self.came = asyncio.Event()

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        self.units.append([message.key for message in messages])
        self.came.set()
        return await super().publish(topic, messages, cursor)


def one(row: Row) -> Message:
    return Message(b"", key=str(row))


def limits(messages: int = 1_000, size: int = 1 << 20, linger: float = 3_600.0) -> Limits:
    return Limits(messages, size, linger)


async def test_rows_are_gathered_over_batches_and_the_rest_leaves_with_the_block() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher(limits(messages=3)) as publisher:
        await publisher.publish_each(shard.batch("ab"), one)
        assert producer.units == []
        await publisher.publish_each(shard.batch("cde"), one)
        assert (producer.units, ShardCursor.decode(producer.cursor).scans) == ([["a", "b", "c"]], {"s": Position("c")})
    assert producer.units == [["a", "b", "c"], ["d", "e"]]
    assert ShardCursor.decode(producer.cursor) == ShardCursor(5, 5, {"s": Position("e")})


async def test_a_unit_has_no_more_bytes_than_it_may() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher(limits(size=1_000)) as publisher:
        await publisher.publish_each(shard.batch("abcde"), lambda row: Message(b"x" * 400, key=str(row)))
    assert producer.units == [["a", "b"], ["c", "d"], ["e"]]


async def test_messages_of_a_row_are_never_divided() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher(limits(messages=2)) as publisher:
        await publisher.publish_each(shard.batch("abc"), lambda row: [one(row)] * (5 if str(row) == "b" else 1))
    assert producer.units == [["a"], ["b"] * 5, ["c"]]


async def test_rows_without_messages_count_as_done() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher() as publisher:
        await publisher.publish_each(shard.batch("abc"), lambda row: None)
    assert producer.units == [[]]
    assert ShardCursor.decode(producer.cursor) == ShardCursor(3, 0, {"s": Position("c")})


async def test_many_rows_without_messages_are_not_kept_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "MOST_ROWS", 2)
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher(limits()) as publisher:
        await publisher.publish_each(shard.batch("abc"), lambda row: None)
        assert producer.units == [[]]


async def test_what_is_gathered_waits_no_longer_than_it_may_for_the_next_batch() -> None:
    producer, clock = Units(), Clock()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher(limits(linger=0.05), clock=clock) as publisher:
        await publisher.publish_each(shard.batch("a"), one)
        assert producer.units == []
        clock.now = 0.05
        async with asyncio.timeout(30):
            await producer.came.wait()
        assert producer.units == [["a"]]
        await publisher.publish_each(shard.batch("b"), one)
    assert producer.units == [["a"], ["b"]]


async def test_making_that_takes_long_does_not_keep_what_is_made() -> None:
    producer, clock = Units(), Clock()
    shard = LocalShard(producer)
    shard.out.begin("s")

    def slowly(row: Row) -> Message:
        clock.now += 1
        return one(row)

    async with shard.publisher(limits(linger=2), clock=clock) as publisher:
        await publisher.publish_each(shard.batch("abcde"), slowly)
        assert producer.units == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize("length", [3, 200])
async def test_an_error_names_the_row_and_what_is_before_it_is_published(length: int) -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    fault = KeyError("name")

    def make(row: Row) -> Message:
        if str(row) == str(length - 2):
            raise fault
        return one(row)

    with pytest.raises(RowFailed, match=rf"Row {length - 2} of users \(scan s\) .*: KeyError: 'name'\.") as raised:
        async with shard.publisher() as publisher:
            await publisher.publish_each(shard.batch(range(length)), make)
    assert raised.value.__cause__ is fault
    assert fault.__traceback__ is not None
    assert producer.units == [[str(n) for n in range(length - 2)]]
    assert ShardCursor.decode(producer.cursor).rows == length - 2


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (Message("text"), BadRequest),  # type: ignore[arg-type]
        (Message(b"", key=7), BadRequest),  # type: ignore[arg-type]
        (Message(b"", tag=["t"]), BadRequest),  # type: ignore[arg-type]
        (Message(b"", key="\ud800"), BadRequest),
        (Message(b"", properties={"a": 1}), BadRequest),  # type: ignore[dict-item]
        (Message(b"", key="k" * 1_025), TooLarge),
        (Message(b"", key="é" * 513), TooLarge),
        (Message(b"", tag="t" * 256), TooLarge),
        (Message(b"", properties={"a": "b" * (32 << 10)}), TooLarge),
        (Message(b"x" * (8 << 20)), TooLarge),
        ([Message(b"x" * (5 << 20))] * 2, TooLarge),
        (["no message"], BadRequest),
        ("no message", BadRequest),
        (7, BadRequest),
    ],
)
async def test_what_cannot_be_sent_is_told_by_row(made: Made, cause: type[Exception]) -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    with pytest.raises(RowFailed, match="Row 'b' of users") as raised:
        async with shard.publisher() as publisher:
            await publisher.publish_each(shard.batch("abc"), lambda row: made if str(row) == "b" else one(row))
    assert isinstance(raised.value.__cause__, cause)
    assert producer.units == [["a"]]


async def test_a_row_that_failed_is_not_passed_over() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    first, second = shard.batch("ab"), shard.batch("cd")

    async def go_on() -> None:
        async with shard.publisher() as publisher:
            with pytest.raises(RowFailed):
                await publisher.publish_each(first, lambda row: 1 / 0)  # type: ignore[arg-type]
            with pytest.raises(PublisherBroken):
                await publisher.publish_each(second, one)

    with pytest.raises(PublisherBroken, match="ZeroDivisionError"):
        await go_on()
    assert producer.units == []


def test_a_handler_that_catches_what_ended_its_last_rows_does_not_succeed(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/users.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO users VALUES (1), (2), (3)")

    def make(row: Row) -> Message:
        return Message(str(1 / (3 - row.id)).encode())  # type: ignore[attr-defined]

    def push(context: Context) -> None:
        with context.publisher("t") as publisher:
            for users in context.scan(engine, "users"):
                with suppress(RowFailed):
                    publisher.publish_each(users, make)

    with pytest.raises(PublisherBroken):
        run_local(push)


@pytest.mark.parametrize("word", [Retry("later"), Fail("no"), Skip(), Cancelled(reason="by hand")])
async def test_words_about_the_attempt_pass_as_they_are(word: Exception) -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")

    def make(row: Row) -> Message:
        if str(row) == "b":
            raise word
        return one(row)

    with pytest.raises(type(word)) as raised:
        async with shard.publisher() as publisher:
            await publisher.publish_each(shard.batch("abc"), make)
    assert raised.value is word
    assert producer.units == [["a"]]


async def test_messages_may_be_made_by_a_coroutine() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")

    async def make(row: Row) -> Message:
        await asyncio.sleep(0)
        if str(row) == "c":
            raise ValueError
        return one(row)

    with pytest.raises(RowFailed, match="Row 'c'"):
        async with shard.publisher() as publisher:
            await publisher.publish_each(shard.batch("abcd"), make)
    assert producer.units == [["a", "b"]]


async def test_a_publish_goes_behind_what_is_gathered() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher() as publisher:
        await publisher.publish_each(shard.batch("ab"), one)
        await publisher.publish([Message(b"", key="own")], checkpoint=shard.batch("c").cursor)
    assert producer.units == [["a", "b"], ["own"]]


async def test_another_scan_begins_another_unit() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    shard.out.begin("other")
    async with shard.publisher() as publisher:
        await publisher.publish_each(shard.batch("ab"), one)
        await publisher.publish_each(shard.batch("cd", scan="other"), one)
    assert producer.units == [["a", "b"], ["c", "d"]]
    assert ShardCursor.decode(producer.cursor).scans == {"s": Position("b"), "other": Position("d")}


async def test_a_block_that_an_error_leaves_sends_nothing_more() -> None:
    producer = Units()
    shard = LocalShard(producer)
    shard.out.begin("s")
    publisher = shard.publisher(limits())
    await publisher.__aenter__()
    await publisher.publish_each(shard.batch("ab"), one)
    await publisher.__aexit__(ValueError, ValueError(), None)
    assert producer.units == []
    with pytest.raises(NotOpen):
        await publisher.publish_each(shard.batch("c"), one)


async def test_gathering_needs_the_block_that_sends_the_rest() -> None:
    publisher = LocalShard(Units()).publisher()
    with pytest.raises(NotOpen):
        await publisher.publish_each(some_rows(), one)
    async with publisher:
        with pytest.raises(InvalidArgument, match="not list"):
            await publisher.publish_each(["a"], one)  # type: ignore[arg-type]


async def test_a_low_pace_makes_small_units() -> None:
    producer, clock = Units(), Clock()
    shard = LocalShard(producer)
    shard.out.begin("s")
    async with shard.publisher(pace=30.0, clock=clock) as publisher:
        publishing = asyncio.create_task(publisher.publish_each(shard.batch("abcdefg"), one))
        await asyncio.sleep(0)
        clock.now = 0.1
        flushing = asyncio.create_task(publisher.flush())
        async with asyncio.timeout(30):
            await producer.came.wait()
        assert producer.units == [["a", "b", "c"]]
        publisher.pace = None
        await asyncio.gather(publishing, flushing)
        assert producer.units == [["a", "b", "c"], ["d", "e", "f", "g"]]


async def test_an_order_to_stop_ends_the_wait_for_the_pace() -> None:
    producer, cancellation = Units(), Cancellation(float("inf"), lambda: 0.0)
    shard = LocalShard(producer, cancellation)
    publisher = shard.publisher(pace=0.001)
    publishing = asyncio.create_task(publisher.publish([Message(b"")] * 2))
    await asyncio.sleep(0)
    cancellation.request(Why.CANCELLED, "by hand")
    async with asyncio.timeout(30):
        with pytest.raises(Cancelled, match="by hand"):
            await publishing
    assert producer.units == []


@pytest.mark.parametrize("bad", [{"messages": 0}, {"messages": 65_537}, {"size": 0}, {"size": 9 << 20}, {"linger": -1}])
def test_limits_that_the_broker_would_not_take_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        Limits(**bad)  # type: ignore[arg-type]
