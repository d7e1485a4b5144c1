"""Listeners on a real broker: retries, dead letters, order, and a stop in the middle, both ways to read."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.client import GroupClient, Message, Producer, ReceivedMessage
from broker.client.operating.dead_letters import DeadLetter, DeadLetterClient
from broker.testing import running_broker
from executor.app import Executor
from executor.errors import Fail, Retry
from tests.support.admin_harness import until
from tests.support.listening import listening, set_policy

pytestmark = pytest.mark.anyio

MODES = ["offset", "lease"]


async def publish(broker: str, *messages: Message) -> None:
    async with Producer(broker) as producer:
        await producer.publish_batch("t", messages)


async def dead_letters(broker: str) -> list[DeadLetter]:
    async with DeadLetterClient(broker) as client:
        return list((await client.read("g", 0, 100)).letters)


class Seen:
    """What a listener was called with, and a way to wait for it."""

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []
        self._news = asyncio.Condition()

    async def add(self, *messages: ReceivedMessage) -> None:
        async with self._news:
            self.messages += messages
            self._news.notify_all()

    async def until(self, check: Callable[[list[ReceivedMessage]], bool]) -> None:
        async with self._news:
            await self._news.wait_for(lambda: check(self.messages))

    def attempts(self, key: str) -> list[int]:
        return [message.attempt for message in self.messages if message.key == key]


@pytest.mark.parametrize("mode", MODES)
async def test_a_message_that_fails_comes_again_and_then_is_a_dead_letter(tmp_path: Path, mode: str) -> None:
    app, seen = Executor("group"), Seen()

    @app.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    async def listen(message: ReceivedMessage) -> None:
        await seen.add(message)
        if message.key == "bad":
            raise RuntimeError("no such user")
        if message.key == "late" and message.attempt == 1:
            raise Retry(after=0)
        if message.key == "hopeless":
            raise Fail("broken")

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=3)
        await publish(broker, *(Message(b"x", key=key) for key in ("good", "bad", "late", "hopeless", "last")))
        async with listening(broker, app):
            await seen.until(lambda messages: len(messages) == 8)
        letters = {letter.stored.key: letter for letter in await dead_letters(broker)}
        async with GroupClient(broker) as groups:
            assert (await groups.get("g")).lag == 0
    assert (seen.attempts("good"), seen.attempts("bad"), seen.attempts("late")) == ([1], [1, 2, 3], [1, 2])
    assert {key: (letter.attempts, letter.error) for key, letter in letters.items()} == {
        "bad": (3, "RuntimeError: no such user"),
        "hopeless": (1, "The handler gave up: broken"),
    }


@pytest.mark.parametrize("mode", MODES)
async def test_of_a_list_only_the_bad_message_is_given_up(tmp_path: Path, mode: str) -> None:
    app, done = Executor("group"), Seen()

    @app.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    async def listen(messages: list[ReceivedMessage]) -> None:
        if any(message.key == "k7" for message in messages):
            raise RuntimeError("no such user")
        await done.add(*messages)

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=2)
        await publish(broker, *(Message(b"x", key=f"k{n}") for n in range(20)))
        async with listening(broker, app):
            await done.until(lambda messages: len(messages) == 19)
            await until(lambda: dead_letters(broker))
        assert [letter.stored.key for letter in await dead_letters(broker)] == ["k7"]
    assert {message.key for message in done.messages} == {f"k{n}" for n in range(20)} - {"k7"}


async def test_by_offset_the_order_of_a_queue_is_kept_over_retries(tmp_path: Path) -> None:
    app, seen = Executor("group"), Seen()

    @app.consumer("t", group="g", mode="offset")
    async def listen(message: ReceivedMessage) -> None:
        await seen.add(message)
        if message.body == b"3" and message.attempt < 3:
            raise RuntimeError("not yet")

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=5)
        await publish(broker, *(Message(b"%d" % n, key="order-7") for n in range(6)))
        async with listening(broker, app):
            await seen.until(lambda messages: len(messages) == 8)
    assert [message.body for message in seen.messages] == [b"0", b"1", b"2", b"3", b"3", b"3", b"4", b"5"]


async def test_by_lease_a_message_that_waits_holds_up_nobody(tmp_path: Path) -> None:
    app, seen = Executor("group"), Seen()

    @app.consumer("t", group="g", mode="lease")
    async def listen(message: ReceivedMessage) -> None:
        await seen.add(message)
        if message.body == b"0":
            raise RuntimeError("in an hour")

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=5, wait_ms=3_600_000)
        await publish(broker, *(Message(b"%d" % n, key="order-7") for n in range(6)))
        async with listening(broker, app):
            await seen.until(lambda messages: len(messages) == 6)
        async with GroupClient(broker) as groups:
            group = await groups.get("g")
    assert (group.waiting, group.leased) == (1, 0)


@pytest.mark.parametrize("mode", MODES)
async def test_a_drain_finishes_what_is_at_hand_and_leaves_the_rest_to_others(tmp_path: Path, mode: str) -> None:
    first, second = Executor("group"), Executor("group")
    began, go_on, rest = asyncio.Event(), asyncio.Event(), Seen()

    @first.consumer("t", group="g", mode=mode, slots=1)  # type: ignore[arg-type]
    async def slow(message: ReceivedMessage) -> None:
        began.set()
        await go_on.wait()

    @second.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    async def quick(message: ReceivedMessage) -> None:
        await rest.add(message)

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=1)  # what was not begun is no attempt: it would be a dead letter
        await publish(broker, *(Message(b"%d" % n, key="order-7") for n in range(5)))
        async with listening(broker, first):
            await began.wait()
            asyncio.get_running_loop().call_soon(go_on.set)
        async with listening(broker, second):
            await rest.until(lambda messages: len(messages) == 4)
    assert sorted(message.body for message in rest.messages) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_listener_says_which_tags_it_wants_and_where_it_begins(tmp_path: Path, mode: str) -> None:
    app, seen = Executor("group"), Seen()

    @app.consumer("t", group="g", mode=mode, tags=["vip"], start="latest")  # type: ignore[arg-type]
    async def listen(message: ReceivedMessage) -> None:
        await seen.add(message)

    async with running_broker(tmp_path) as broker, GroupClient(broker) as groups:
        await set_policy(broker, attempts=1)
        await publish(broker, Message(b"old", tag="vip"))
        async with listening(broker, app):
            while not (await groups.get("g")).queues:
                await asyncio.sleep(0)
            await publish(broker, Message(b"dull", tag="plain"), Message(b"new", tag="vip"))
            await seen.until(lambda messages: len(messages) == 1)
    assert [message.body for message in seen.messages] == [b"new"]
