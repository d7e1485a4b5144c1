"""Transactions over gRPC: together or not at all, over restarts, and decided by whoever of the group lives."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

import shardcast
from broker.client import Consumer, Message, Producer
from broker.client.publishing.transaction import Transactions
from broker.daemon import House, build
from broker.errors import BadName, BadRequest, NotOpen, TooLarge, TooMany, TransactionUnknown
from broker.face.transactions import CheckCounts
from broker.model import TransactionId
from broker.producers.transactions import Outcome
from broker.settings import BrokerSettings
from broker.testing import running_broker
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed
from tests.support.broker_process import free_port
from tests.support.fake_broker import FakeBroker, running_fake

pytestmark = pytest.mark.anyio


class Clock:
    """The wall clock, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return int(datetime.now(UTC).timestamp() * 1_000) + self.ahead_ms


@asynccontextmanager
async def house_at(data: Path, clock: Clock, **settings: object) -> AsyncIterator[House]:
    """A broker whose checks only the test runs."""
    async with build(BrokerSettings.from_env(**{"data": data, "port": 0, **settings}), clock=clock) as house:
        yield house


async def read(endpoint: str, topic: str, count: int, group: str = "readers") -> list[Message]:
    found: list[Message] = []
    async with asyncio.timeout(20), Consumer(endpoint, group, [topic]) as consumer:
        while len(found) < count:
            batch = await anext(consumer)
            found += batch
            await consumer.commit(batch)
    return found


async def leave_open(endpoint: str, *bodies: bytes, group: str = "orders") -> str:
    """What a process does that dies before the end of its block."""
    transaction_id = uuid.uuid4().hex
    part = pb.TransactionPart(transaction_id=transaction_id, producer_group=group)
    async with Producer(endpoint) as producer:
        messages = [Message(body, key="k", tag="created", properties={"shop": "12"}) for body in bodies]
        await producer._publish("t", messages, part)
    return transaction_id


async def checked(house: House, clock: Clock) -> CheckCounts:
    """One look at what is due a minute later."""
    clock.ahead_ms += 60_000
    return await house.broker.transactions.checker.run_once()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0)


async def test_a_block_shows_its_messages_of_all_topics_together_at_its_end(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        async with producer.transaction() as transaction:
            await transaction.publish("t", Message(b"a", key="k"))
            await transaction.publish_batch("t", [Message(b"b", key="k"), Message(b"elsewhere", topic="other")])
            await producer.publish("t", Message(b"outside", key="k"))
        assert [message.body for message in await read(endpoint, "t", 3)] == [b"outside", b"a", b"b"]
        assert [message.body for message in await read(endpoint, "other", 1)] == [b"elsewhere"]
        with pytest.raises(NotOpen):
            await transaction.publish("t", Message(b"late"))


async def test_a_block_that_raises_shows_nothing(tmp_path: Path) -> None:
    async def fail(producer: Producer) -> None:
        async with producer.transaction() as transaction:
            await transaction.publish("t", Message(b"a", key="k"))
            raise ZeroDivisionError

    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        with pytest.raises(ZeroDivisionError):
            await fail(producer)
        await producer.publish("t", Message(b"after", key="k"))
        assert [message.body for message in await read(endpoint, "t", 1)] == [b"after"]


async def test_a_block_without_messages_asks_nothing_of_the_broker() -> None:
    broker = FakeBroker()  # which knows no end of a transaction
    async with running_fake(broker) as endpoint, Producer(endpoint) as producer, producer.transaction():
        pass
    assert not any(broker.requests)


async def test_a_block_that_lives_with_a_refusal_ends_as_if_the_refused_had_never_been(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        async with producer.transaction() as transaction:
            with pytest.raises(TooLarge):
                await transaction.publish("t", Message(bytes(9 << 20)))
        async with producer.transaction() as transaction:
            with pytest.raises(TooLarge):
                await transaction.publish("t", Message(bytes(9 << 20)))
            await transaction.publish("t", Message(b"a"))
        assert [message.body for message in await read(endpoint, "t", 1)] == [b"a"]


async def test_a_restart_in_the_middle_of_a_block_loses_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with house_at(tmp_path, clock) as house:
        transaction_id = await leave_open(house.endpoints["grpc"], b"a", b"b")
    async with house_at(tmp_path, clock) as house:
        endpoint = house.endpoints["grpc"]
        transactions = Transactions(endpoint, "orders", token="")
        await transactions.commit(transaction_id)
        assert [message.body for message in await read(endpoint, "t", 2)] == [b"a", b"b"]
        await transactions.commit(transaction_id)
        with pytest.raises(TransactionUnknown):
            await transactions.end(transaction_id, pb.OUTCOME_ROLLBACK)
        await transactions.close()


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_living_producer_of_the_group_tells_what_a_dead_one_left_open(tmp_path: Path, is_async: bool) -> None:
    clock, asked = Clock(), asyncio.Queue[Message]()
    loop = asyncio.get_running_loop()

    def check(message: Message) -> bool | None:
        loop.call_soon_threadsafe(asked.put_nowait, message)
        return {b"yes": True, b"no": False}.get(message.body)

    async def check_async(message: Message) -> bool | None:
        return check(message)

    async with house_at(tmp_path, clock) as house:
        endpoint = house.endpoints["grpc"]
        for body in (b"yes", b"no", b"later"):
            await leave_open(endpoint, body, b"more")
        assert await checked(house, clock) == CheckCounts(3, 0, 0)  # nobody is there to be asked
        async with Producer(endpoint, group="orders", check=check_async if is_async else check):
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            assert await checked(house, clock) == CheckCounts(3, 3, 0)
            messages = [await asked.get() for _ in range(3)]
            assert {message.body for message in messages} == {b"yes", b"no", b"later"}
            first = messages[0]
            assert (first.topic, first.key, first.tag, dict(first.properties)) == ("t", "k", "created", {"shop": "12"})
            assert [message.body for message in await read(endpoint, "t", 2)] == [b"yes", b"more"]
            await until(lambda: len(house.broker.transactions.open()) == 1)
            assert await checked(house, clock) == CheckCounts(1, 1, 0)
            assert (await asked.get()).body == b"later"


def no_more() -> bool:
    return next(iter([]))  # raises StopIteration


def leave() -> bool:
    raise SystemExit


def have_been_cancelled() -> bool:
    raise CancelledError


@pytest.mark.parametrize("end", [no_more, leave, have_been_cancelled, None])
async def test_a_check_that_ends_in_an_odd_way_is_asked_again_and_others_after_it(
    tmp_path: Path, end: Callable[[], bool] | None
) -> None:
    clock, asked = Clock(), list[bytes]()

    def check(message: Message) -> bool:
        asked.append(message.body)
        return message.body != b"odd" or (end is not None and end())

    async def check_async(message: Message) -> bool:
        if message.body == b"odd":
            asked.append(message.body)
            raise asyncio.CancelledError
        return check(message)

    async with house_at(tmp_path, clock) as house:
        endpoint = house.endpoints["grpc"]
        for body in (b"odd", b"even"):
            await leave_open(endpoint, body)
        async with Producer(endpoint, group="orders", check=check if end else check_async):
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            assert await checked(house, clock) == CheckCounts(2, 2, 0)
            assert [message.body for message in await read(endpoint, "t", 1)] == [b"even"]
            assert await checked(house, clock) == CheckCounts(1, 1, 0)
            await until(lambda: asked == [b"odd", b"even", b"odd"])


async def test_a_plain_function_may_answer_with_what_is_to_be_awaited(tmp_path: Path) -> None:
    clock = Clock()

    async def is_paid(message: Message) -> bool:
        return True

    async with house_at(tmp_path, clock) as house:
        endpoint = house.endpoints["grpc"]
        await leave_open(endpoint, b"order")
        async with Producer(endpoint, group="orders", check=lambda message: is_paid(message)):
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            assert await checked(house, clock) == CheckCounts(1, 1, 0)
            assert [message.body for message in await read(endpoint, "t", 1)] == [b"order"]


async def test_one_that_ends_before_its_check_is_taken_is_not_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    async with house_at(tmp_path, clock) as house:
        broker = house.broker.transactions
        transaction_id = TransactionId(await leave_open(house.endpoints["grpc"], b"a"))
        with broker.watch("orders") as watcher:
            assert await checked(house, clock) == CheckCounts(1, 1, 0)
            check = watcher.get_nowait()
            assert check is not None
            asked = await broker.read(check)
            assert asked is not None
            assert asked.body == b"a"
            await broker.end(transaction_id, Outcome.COMMITTED)
            assert await broker.read(check) is None


async def test_watches_beyond_the_most_are_refused(tmp_path: Path) -> None:
    request = pb.WatchTransactionsRequest(producer_group="orders")
    async with house_at(tmp_path, Clock(), publish_streams=1) as house, dial(house.endpoints["grpc"]) as channel:
        stub = BrokerServiceStub(channel)
        first = asyncio.create_task(stub.WatchTransactions(request).read())
        await until(lambda: house.broker.transactions.watchers("orders") == 1)
        with pytest.raises(TooMany, match="watches of transactions: the limit is 1"), renamed("broker"):
            await stub.WatchTransactions(request).read()
        first.cancel()


async def test_a_check_without_an_answer_is_asked_again_and_an_open_block_is_not_asked_for(tmp_path: Path) -> None:
    clock, asked = Clock(), asyncio.Queue[bytes]()

    async def check(message: Message) -> bool:
        asked.put_nowait(message.body)
        if asked.qsize() == 1:
            raise ZeroDivisionError
        return True if asked.qsize() == 3 else cast(bool, "not yet")

    async with house_at(tmp_path, clock) as house, asyncio.timeout(20):
        endpoint = house.endpoints["grpc"]
        async with Producer(endpoint, group="orders", check=check) as producer, producer.transaction() as transaction:
            await transaction.publish("t", Message(b"mine", key="k"))
            await leave_open(endpoint, b"open")
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            for count in (1, 2, 3):
                assert await checked(house, clock) == CheckCounts(2, 2, 0)
                await until(lambda count=count: asked.qsize() == count)  # type: ignore[misc]
            assert [message.body for message in await read(endpoint, "t", 1)] == [b"open"]
        assert [message.body for message in await read(endpoint, "t", 1)] == [b"mine"]
        assert [asked.get_nowait() for _ in range(3)] == [b"open"] * 3


async def test_what_nobody_decides_is_in_a_visible_topic_and_the_late_commit_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    async with house_at(tmp_path, clock) as house:
        endpoint = house.endpoints["grpc"]

        async def dawdle(producer: Producer) -> None:
            async with producer.transaction() as transaction:
                await transaction.publish("t", Message(b"a", key="k"))
                for _ in range(15):
                    assert await checked(house, clock) == CheckCounts(1, 0, 0)
                assert await checked(house, clock) == CheckCounts(0, 0, 1)

        async with Producer(endpoint, group="orders") as producer:
            with pytest.raises(TransactionUnknown):
                await dawdle(producer)
        (undecided,) = await read(endpoint, "%UNDECIDED%orders", 1)
        assert (undecided.body, undecided.key) == (b"a", "k")
        assert undecided.properties["undecided-topic"] == "t"
        assert await checked(house, clock) == CheckCounts(0, 0, 0)


async def publish_all(producer: Producer, *messages: Message) -> None:
    """One transaction, a publish for each message."""
    async with producer.transaction() as transaction:
        for message in messages:
            await transaction.publish("t", message)


async def test_each_bound_of_a_transaction_is_refused_with_its_own_code(tmp_path: Path) -> None:
    async with running_broker(tmp_path, open_transactions=1) as endpoint, Producer(endpoint) as producer:
        with pytest.raises(BadRequest, match="cannot be delayed"):
            await publish_all(producer, Message(b"x", deliver_at=datetime.now(UTC) + timedelta(days=1)))
        with pytest.raises(TooLarge):
            await publish_all(producer, Message(bytes(5 << 20)), Message(bytes(5 << 20)))
        async with producer.transaction() as transaction:
            await transaction.publish("t", Message(b"kept"))
            with pytest.raises(TooMany):
                await publish_all(producer, Message(b"x"))
        assert [message.body for message in await read(endpoint, "t", 1)] == [b"kept"]


async def test_a_group_that_is_no_name_is_refused(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, Producer(endpoint, group="no name") as producer:
        with pytest.raises(BadName):
            await publish_all(producer, Message(b"x"))


async def test_the_blocking_twin_commits_rolls_back_and_answers_checks(tmp_path: Path) -> None:
    clock, asked = Clock(), asyncio.Queue[bytes]()
    loop = asyncio.get_running_loop()

    def check(message: Message) -> bool:
        loop.call_soon_threadsafe(asked.put_nowait, message.body)
        return True

    def publish_all(endpoint: str) -> None:
        with shardcast.Producer(endpoint, group="orders") as producer:
            with producer.transaction(check=check) as transaction:
                transaction.publish("t", Message(b"a", key="k"))
                transaction.publish_batch("t", [Message(b"b", key="k")])
            with suppress(ZeroDivisionError), producer.transaction() as transaction:
                transaction.publish("t", Message(b"never", key="k"))
                raise ZeroDivisionError
            is_over.wait(20)

    async with house_at(tmp_path, clock) as house:
        endpoint, is_over = house.endpoints["grpc"], threading.Event()
        publishing = asyncio.create_task(asyncio.to_thread(publish_all, endpoint))
        try:
            assert [message.body for message in await read(endpoint, "t", 2)] == [b"a", b"b"]
            await leave_open(endpoint, b"open")
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            await checked(house, clock)
            assert await asyncio.wait_for(asked.get(), 20) == b"open"
            assert [message.body for message in await read(endpoint, "t", 3, group="others")] == [b"a", b"b", b"open"]
        finally:
            is_over.set()
            await publishing


async def test_a_watch_ends_with_its_producer_and_comes_back_after_a_restart(tmp_path: Path) -> None:
    clock, asked, port = Clock(), asyncio.Queue[bytes](), free_port()

    async def check(message: Message) -> bool:
        asked.put_nowait(message.body)
        return True

    async with AsyncExitStack() as living:
        async with house_at(tmp_path, clock, port=port) as house:
            endpoint = house.endpoints["grpc"]
            await living.enter_async_context(Producer(endpoint, group="orders", check=check))
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            await leave_open(endpoint, b"open")
        async with house_at(tmp_path, clock, port=port) as house:
            await until(lambda: house.broker.transactions.watchers("orders") == 1)
            assert await checked(house, clock) == CheckCounts(1, 1, 0)
            assert await asyncio.wait_for(asked.get(), 20) == b"open"
            assert [message.body for message in await read(endpoint, "t", 1)] == [b"open"]
            await living.aclose()
            await until(lambda: house.broker.transactions.watchers("orders") == 0)
