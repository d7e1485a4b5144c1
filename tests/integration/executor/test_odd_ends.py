"""Listeners that end in odd ways on a real broker: each costs its own messages, and nothing else."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from broker.client import Consumer, GroupClient, Message, Producer, ReceivedMessage
from broker.client.operating.dead_letters import DeadLetterClient
from broker.errors import BadRequest, UnknownGroup
from broker.testing import running_broker
from executor.app import Executor
from executor.errors import Fail, Retry
from tests.support.listening import listening, set_policy

pytestmark = pytest.mark.anyio

MODES = ["offset", "lease"]
HALF = "\udcff"  # of a character, as in the name of a file that is no UTF-8


async def publish(broker: str, *keys: str) -> None:
    async with Producer(broker) as producer:
        await producer.publish_batch("t", [Message(b"x", key=key) for key in keys])


async def errors(broker: str, count: int) -> list[str]:
    """Of the dead letters, once there are so many."""
    async with DeadLetterClient(broker) as client, GroupClient(broker) as groups:
        while (await groups.get("g")).dead_letters < count:
            await asyncio.sleep(0.01)
        return sorted(letter.error for letter in (await client.read("g", 0, 100)).letters)


async def until_waiting(broker: str, count: int) -> None:
    """So many messages wait for their next attempt, and nobody has any."""
    async with GroupClient(broker) as groups:
        while True:
            with suppress(UnknownGroup):
                group = await groups.get("g")
                if (group.waiting, group.leased) == (count, 0):
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", MODES)
async def test_an_error_that_is_no_text_is_told_as_far_as_it_is_one(tmp_path: Path, mode: str) -> None:
    app = Executor("group")

    @app.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    def listen(message: ReceivedMessage) -> None:
        raise (Fail if message.key == "hopeless" else FileNotFoundError)(f"no file {HALF}")

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=2)
        await publish(broker, "hopeless", "failed")
        async with listening(broker, app):
            told = await errors(broker, 2)
    assert told == ["FileNotFoundError: no file ?", "The handler gave up: no file ?"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", ["5", Decimal(5)], ids=repr)
async def test_a_retry_after_what_is_no_time_is_a_failure(tmp_path: Path, mode: str, after: object) -> None:
    app = Executor("group")

    @app.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    async def listen(message: ReceivedMessage) -> None:
        raise Retry("later", after=cast(float, after))

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=2)
        await publish(broker, "k")
        async with listening(broker, app):
            [told] = await errors(broker, 1)
    assert told == f"InvalidArgument: a retry comes after seconds or a timedelta, not {after!r}"


@pytest.mark.parametrize("days", [1, 100, 100_000_000])
async def test_a_retry_in_days_takes_nothing_along_that_is_done_at_the_same_time(tmp_path: Path, days: int) -> None:
    app, seen, both = Executor("group"), list[tuple[str | None, int]](), asyncio.Event()

    @app.consumer("t", group="g", lease=timedelta(seconds=1))
    async def listen(message: ReceivedMessage) -> None:
        seen.append((message.key, message.attempt))
        if len(seen) == 2:
            both.set()
        await both.wait()
        if message.key == "late":
            raise Retry(after=timedelta(days=days))

    async with running_broker(tmp_path) as broker:
        await publish(broker, "late", "done")
        async with listening(broker, app):
            await until_waiting(broker, 1)
    assert sorted(seen) == [("done", 1), ("late", 1)]


async def test_a_retry_whose_time_has_passed_comes_at_once(tmp_path: Path) -> None:
    app = Executor("group")

    @app.consumer("t", group="g")
    async def listen(message: ReceivedMessage) -> None:
        raise Retry("over", after=timedelta(seconds=-5))

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=2)
        await publish(broker, "k")
        async with listening(broker, app), asyncio.timeout(10):  # less than the lease of 30 s
            assert await errors(broker, 1) == ["The handler asks to be tried again: over"]


@pytest.mark.parametrize("after", [timedelta(days=1), timedelta(days=100)])
async def test_what_the_broker_would_refuse_is_refused_to_whom_says_it(tmp_path: Path, after: timedelta) -> None:
    async with running_broker(tmp_path) as broker:
        await publish(broker, "late", "done")
        async with Consumer(broker, "g", ["t"], mode="lease") as consumer:
            got: list[ReceivedMessage] = []
            while len(got) < 2:
                got += await anext(consumer)
            late, done = got
            said = await asyncio.gather(
                consumer.acknowledge(done), consumer.retry(late, after=after), return_exceptions=True
            )
    assert said[0] is None
    assert isinstance(said[1], BadRequest)


@pytest.mark.parametrize("mode", MODES)
async def test_what_nobody_runs_is_not_done(tmp_path: Path, mode: str) -> None:
    app, left = Executor("group"), ExitStack()

    async def awaited() -> None:
        pass

    def yielding() -> Iterator[None]:
        yield

    @app.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    def listen(message: ReceivedMessage) -> object:
        return left.enter_context(closing(awaited() if message.key == "awaited" else yielding()))

    async with running_broker(tmp_path) as broker:
        await set_policy(broker, attempts=1)
        await publish(broker, "awaited", "yielding")
        async with listening(broker, app):
            told = await errors(broker, 2)
    left.close()
    assert ["coroutine" in told[0], "generator" in told[1]] == [True, True]
