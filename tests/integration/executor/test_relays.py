"""Listeners that publish, on a real broker: each message leads to its messages exactly once, in order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.client import Consumer, GroupClient, Message, Producer, ReceivedMessage
from broker.client.operating.dead_letters import DeadLetter, DeadLetterClient
from broker.client.operating.topics import TopicClient
from broker.daemon import build
from broker.errors import DiskFull, UnknownGroup
from broker.log.disk import Disk
from broker.settings import BrokerSettings
from broker.testing import running_broker
from executor.app import Executor
from executor.errors import Fail, Retry
from executor.model import Handled
from executor.running.listening import relaying
from executor.running.listening.joining import BrokerGroups
from executor.running.listening.listening import Listening
from tests.support.broker_process import BrokerProcess
from tests.support.listening import listening, set_policy

pytestmark = pytest.mark.anyio


async def publish(broker: str, *messages: Message, topic: str = "in") -> None:
    async with Producer(broker) as producer:
        await producer.publish_batch(topic, messages)


async def read(broker: str, count: int, topic: str = "out") -> list[ReceivedMessage]:
    """So many messages of a topic, and no more than there are."""
    found: list[ReceivedMessage] = []
    async with asyncio.timeout(30), Consumer(broker, f"reader-of-{topic}", [topic]) as consumer:
        while len(found) < count:
            batch = await consumer.__anext__()
            found += batch
            await consumer.commit(batch)
    return found


async def lag(broker: str) -> int:
    async with GroupClient(broker) as groups:
        return (await groups.get("g")).lag


async def until_read(broker: str) -> None:
    async with GroupClient(broker) as groups:
        while True:
            with suppress(UnknownGroup):
                if (group := await groups.get("g")).queues and not group.lag:
                    return
            await asyncio.sleep(0.01)


async def stored(broker: str, topic: str = "out") -> int:
    async with TopicClient(broker) as topics:
        return sum(queue.end for queue in (await topics.get(topic)).queues)


async def dead_letters(broker: str) -> list[DeadLetter]:
    async with DeadLetterClient(broker) as client:
        return list((await client.read("g", 0, 100)).letters)


def numbers(count: int, key: str | None = None) -> list[Message]:
    return [Message(b"%d" % n, key=key or f"k{n}") for n in range(count)]


async def test_each_message_leads_to_what_the_function_returns(tmp_path: Path) -> None:
    app, due = Executor("group"), datetime.now(UTC) + timedelta(milliseconds=1)

    @app.consumer("in", group="g", mode="offset", to="out")
    async def double(message: ReceivedMessage) -> list[Message] | Message | None:
        match message.body:
            case b"0":
                return None
            case b"1":
                return Message(b"elsewhere", topic="other")
            case b"2":
                return message  # passed on
        return [
            Message(message.body, key=message.key, tag="a", properties={"p": "v"}),
            Message(message.body, deliver_at=due),
        ]

    async with running_broker(tmp_path) as broker:
        await publish(broker, *numbers(10))
        async with listening(broker, app):
            out = await read(broker, 15)
            [other] = await read(broker, 1, "other")
            await until_read(broker)
        assert await stored(broker) == 15
    assert other.body == b"elsewhere"
    found = sorted(
        (int(message.body), message.key, message.tag, dict(message.properties)) for message in out if message.key
    )
    assert found == [(2, "k2", None, {}), *((n, f"k{n}", "a", {"p": "v"}) for n in range(3, 10))]
    assert sorted(int(message.body) for message in out if not message.key) == list(range(3, 10))


@pytest.mark.parametrize("is_single", [True, False])
async def test_the_order_of_a_queue_is_kept_through_failures_and_refusals(tmp_path: Path, is_single: bool) -> None:
    app = Executor("group")

    def made(message: ReceivedMessage) -> Message:
        match message.body:
            case b"10" if message.attempt < 3:
                raise RuntimeError("not yet")
            case b"20" if message.attempt < 2:
                raise Retry(after=0)
            case b"30":
                raise Fail("never")
            case b"40":
                return Message(b"x" * (9 << 20))  # not even sent
            case b"50":
                return Message(b"x", deliver_at=datetime.now(UTC) + timedelta(days=30))  # refused by the broker
        return Message(message.body, key="one")

    if is_single:

        @app.consumer("in", group="g", mode="offset", to="out")
        def single(message: ReceivedMessage) -> Message:
            return made(message)

    else:

        @app.consumer("in", group="g", mode="offset", to="out", max_messages=16)
        def several(messages: list[ReceivedMessage]) -> list[Message]:
            return [made(message) for message in messages]

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=3)
        await publish(broker, *numbers(60, key="one"))
        async with listening(broker, app):
            out = await read(broker, 57)
            await until_read(broker)
        assert await stored(broker) == 57
        letters = await dead_letters(broker)
    assert [int(message.body) for message in out] == [n for n in range(60) if n not in (30, 40, 50)]
    assert [(letter.stored.body, letter.attempts) for letter in letters] == [
        (b"30", 1 if is_single else 2),
        (b"40", 3),
        (b"50", 3),
    ]
    assert "limit is" in letters[1].error
    assert "7 days" in letters[2].error


async def test_what_a_listener_returns_that_is_no_message_is_a_failure(tmp_path: Path) -> None:
    app = Executor("group")

    @app.consumer("in", group="g", mode="offset", to="out")
    async def listen(message: ReceivedMessage) -> object:
        return {b"0": "text", b"1": [Message(b"x"), 7], b"2": Handled(2), b"3": 5}[message.body]

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=1)
        await publish(broker, *numbers(4, key="one"))
        async with listening(broker, app):
            await until_read(broker)
        told = [letter.error for letter in await dead_letters(broker)]
    whole = "with to= it is a Message, several of them, or None, not of the type"
    assert [line.partition("followed: ")[2] for line in told] == [
        f"{whole} str.",
        "number 1 of what was to be published is no Message, but of the type int.",
        "Handled(2) is not between 0 and the 1 that it was called with.",
        f"{whole} int.",
    ]


async def test_part_of_a_list_is_published_and_the_rest_waits_without_an_attempt(tmp_path: Path) -> None:
    app, calls = Executor("group"), list[Sequence[tuple[int, int]]]()

    @app.consumer("in", group="g", mode="offset", to="out")
    async def listen(messages: list[ReceivedMessage]) -> Handled:
        calls.append([(message.offset, message.attempt) for message in messages])
        if len(calls) < 6:
            return Handled(0, after=0.001)
        return Handled(2, (Message(message.body, key="one") for message in messages[:2]), after=timedelta())

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=2)
        await publish(broker, *numbers(6, key="one"))
        async with listening(broker, app):
            out = await read(broker, 6)
            await until_read(broker)
        assert await dead_letters(broker) == []
    assert [int(message.body) for message in out] == list(range(6))
    assert calls == [[(n, 1) for n in range(6)]] * 6 + [[(n, 1) for n in range(2, 6)], [(4, 1), (5, 1)]]


async def test_what_was_published_and_not_committed_is_left_out_by_the_next_owner(tmp_path: Path) -> None:
    """The first owner is cut off between publishing and committing."""
    app = Executor("group")

    @app.consumer("in", group="g", mode="offset", to="out")
    async def listen(messages: list[ReceivedMessage]) -> list[Message]:
        return [Message(message.body) for message in messages]

    class Lost(BrokerGroups):
        def by_offset(self, listener):  # type: ignore[no-untyped-def]
            consumer = super().by_offset(listener)
            consumer.commit = hang  # type: ignore[method-assign]
            return consumer

    has_published = asyncio.Event()

    async def hang(*_: object) -> None:
        has_published.set()
        await asyncio.Event().wait()

    async with running_broker(tmp_path) as broker:
        await publish(broker, *numbers(50, key="one"))
        task = asyncio.create_task(Listening(app.registry.listeners[0], Lost(broker, "")).run())
        async with asyncio.timeout(20):
            await has_published.wait()
        assert (await stored(broker), await lag(broker)) == (50, 50)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await publish(broker, *numbers(5, key="one"))
        async with listening(broker, app):
            await until_read(broker)
        assert await stored(broker) == 55


async def test_relays_go_on_when_the_broker_was_killed(tmp_path: Path) -> None:
    app, has_begun = Executor("group"), asyncio.Event()

    @app.consumer("in", group="g", mode="offset", to="out", max_messages=10)
    async def listen(messages: list[ReceivedMessage]) -> list[Message]:
        has_begun.set()
        return [Message(message.body, key=message.key) for message in messages]

    broker = BrokerProcess(tmp_path / "data")
    await broker.start()
    try:
        await publish(broker.endpoint, *numbers(2_000))
        async with listening(broker.endpoint, app):
            for _ in range(3):
                await has_begun.wait()
                await broker.kill()
                has_begun.clear()
                await broker.start()
            out = await read(broker.endpoint, 2_000)
            await until_read(broker.endpoint)
        assert await stored(broker.endpoint) == 2_000
    finally:
        await broker.stop()
    assert sorted(int(message.body) for message in out) == list(range(2_000))


@pytest.mark.parametrize("anew", ["reset", "delete"])
async def test_a_group_that_reads_anew_publishes_anew(tmp_path: Path, anew: str) -> None:
    app = Executor("group")

    @app.consumer("in", group="g", mode="offset", to="out")
    async def listen(messages: list[ReceivedMessage]) -> list[Message]:
        return [Message(message.body) for message in messages]

    async with running_broker(tmp_path) as broker, GroupClient(broker) as groups:
        await publish(broker, *numbers(20))
        for times in (1, 2):
            async with listening(broker, app):
                await until_read(broker)
            assert await stored(broker) == 20 * times
            if anew == "reset":
                await groups.reset("g", "in", "earliest")
            else:
                await groups.delete("g")


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    app = Executor("group")

    @app.consumer("in", group="g", mode="offset", to="out")
    async def listen(messages: list[ReceivedMessage]) -> list[Message]:
        return [Message(message.body) for message in messages]

    async with running_broker(tmp_path) as broker, TopicClient(broker) as topics:
        for times in (1, 2):
            await publish(broker, *numbers(20, key="one"))
            async with listening(broker, app):
                await until_read(broker)
            assert await stored(broker) == 20 * times
            await topics.delete("in")


class SmallDisk(Disk):
    """Has as many bytes left as it is told."""

    left = 1 << 40

    def free(self, path: Path) -> int:
        return self.left


async def until_full(broker: str) -> None:
    """The broker looks at its disk every second."""
    with suppress(DiskFull):
        while True:
            await publish(broker, Message(b"x"), topic="other")


async def test_a_relay_waits_while_the_disk_is_full_and_calls_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, calls, disk, go_on = Executor("group"), list[int](), SmallDisk(), asyncio.Event()
    monkeypatch.setattr(relaying, "DISK_FULL_SECONDS", 0.01)

    @app.consumer("in", group="g", mode="offset", to="out", max_messages=5)
    async def listen(messages: list[ReceivedMessage]) -> list[Message]:
        await go_on.wait()
        calls.extend(message.offset for message in messages)
        return [Message(message.body, key=message.key) for message in messages]

    async with build(BrokerSettings.from_env(data=tmp_path, port=0), disk=disk) as house, asyncio.TaskGroup() as group:
        group.create_task(house.run())
        broker = house.endpoints["grpc"]
        await publish(broker, *numbers(20, key="one"))
        with capture_logs() as logs:
            async with listening(broker, app):
                disk.left = 0
                await until_full(broker)
                go_on.set()
                while not any(line.get("action") == "relay_waits" for line in logs):
                    await asyncio.sleep(0.01)
                disk.left = 1 << 40
                await until_read(broker)
        assert [int(message.body) for message in await read(broker, 20)] == list(range(20))
        assert calls == list(range(20))
        house.stop()
