"""A consumer that reads by lease, against a real broker: what it settles is settled, what it leaves comes to others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.client import Consumer, Message, Producer
from broker.client.operating.groups import GroupClient
from broker.errors import BadRequest, LeaseExpired, ModeConflict, NotOpen
from broker.model import GroupPolicy, Steps
from broker.testing import running_broker

pytestmark = pytest.mark.anyio

AT_ONCE = timedelta(0)


def leasing(endpoint: str, **given: object) -> Consumer:
    return Consumer(endpoint, "readers", ["t"], mode="lease", **given)  # type: ignore[arg-type]


def some(count: int, **given: object) -> list[Message]:
    return [Message(b"%d" % number, **given) for number in range(count)]  # type: ignore[arg-type]


@asynccontextmanager
async def filled(data: Path, messages: list[Message]) -> AsyncIterator[str]:
    """A broker that has them."""
    async with asyncio.timeout(30), running_broker(data) as endpoint, Producer(endpoint) as producer:
        await producer.publish_batch("t", messages)
        yield endpoint


async def take(consumer: Consumer, count: int) -> list[int]:
    """So many messages, acknowledged batch by batch."""
    taken: list[int] = []
    while len(taken) < count:
        batch = await anext(consumer)
        await consumer.acknowledge(batch)
        taken += [int(message.body) for message in batch]
    return taken


async def test_members_share_the_messages_and_each_comes_once(tmp_path: Path) -> None:
    async with (
        filled(tmp_path, some(500)) as endpoint,
        leasing(endpoint, max_messages=7) as ann,
        leasing(endpoint, max_messages=7) as bob,
    ):
        seen: list[int] = []

        async def read(consumer: Consumer) -> None:
            async for batch in consumer:
                seen.extend(int(message.body) for message in batch)
                await asyncio.gather(*(consumer.acknowledge(message) for message in batch))

        reading = [asyncio.create_task(read(consumer)) for consumer in (ann, bob)]
        async with GroupClient(endpoint) as groups:
            while any(queue.lag for queue in (await groups.get("readers")).queues):
                await asyncio.sleep(0.02)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    assert sorted(seen) == [*range(500)]


async def test_a_topic_that_is_named_several_times_is_read_once(tmp_path: Path) -> None:
    async with (
        filled(tmp_path, some(100)) as endpoint,
        Consumer(endpoint, "readers", ["t"] * 3, mode="lease") as consumer,
    ):
        assert sorted(await take(consumer, 100)) == [*range(100)]


async def test_what_a_member_did_not_settle_when_it_went_is_for_others_at_once(tmp_path: Path) -> None:
    async with filled(tmp_path, some(50)) as endpoint:
        async with leasing(endpoint, max_messages=5) as gone:
            kept = await anext(gone)
        async with leasing(endpoint) as other:
            seen: list[int] = []
            while len(seen) < 50:
                seen += [int(message.body) for message in await anext(other)]
        assert sorted(seen) == [*range(50)]
        assert {int(message.body) for message in kept} < {*seen}, "what it had looked at too"


async def test_a_message_that_failed_comes_again_with_its_attempt(tmp_path: Path) -> None:
    async with filled(tmp_path, some(1)) as endpoint, leasing(endpoint) as consumer:
        (first,) = await anext(consumer)
        await consumer.retry(first, after=AT_ONCE, error="no")
        (second,) = await anext(consumer)
        await consumer.give_back(second)
        (third,) = await anext(consumer)
        assert [first.attempt, second.attempt, third.attempt] == [1, 2, 3]
        assert first.message_id == third.message_id
        with pytest.raises(LeaseExpired):
            await consumer.acknowledge(second)
        await consumer.extend(third, by=timedelta(minutes=1))
        await consumer.acknowledge(third)


async def test_a_message_is_given_up_by_hand_or_when_no_attempt_is_left(tmp_path: Path) -> None:
    async with filled(tmp_path, some(2, key="k")) as endpoint:
        async with GroupClient(endpoint) as groups:
            await groups.alter("readers", GroupPolicy(attempts=1, backoff=Steps((0,))))
        async with leasing(endpoint) as consumer:
            one, two = await anext(consumer)
            await consumer.give_up(one, error="never")
            await consumer.retry(two, error="not now")
        async with Consumer(endpoint, "undertakers", ["%DLQ%readers"]) as consumer:
            dead = await anext(consumer)
    assert [message.properties["dead-letter-error"] for message in dead] == ["never", "not now"]
    assert [message.properties["dead-letter-message-id"] for message in dead] == [one.message_id, two.message_id]


async def test_only_the_wanted_tags_come_either_way(tmp_path: Path) -> None:
    async with filled(tmp_path, [*some(10, tag="a"), *some(10, tag="b")]) as endpoint:
        async with leasing(endpoint, tags=["b"]) as consumer:
            assert sorted(await take(consumer, 10)) == [*range(10)]
        async with Consumer(endpoint, "others", ["t"], tags=["b"]) as consumer:
            seen: list[str | None] = []
            while len(seen) < 10:
                seen += [message.tag for message in await anext(consumer)]
            assert {*seen} == {"b"}


@pytest.mark.parametrize("mode", ["offset", "lease"])
async def test_a_group_begins_where_it_is_told_to(tmp_path: Path, mode: str) -> None:
    async with asyncio.timeout(30), running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
        await producer.publish("t", Message(b"0"))
        now = datetime.now(UTC)
        while datetime.now(UTC) - now < timedelta(milliseconds=2):
            await asyncio.sleep(0)
        await producer.publish("t", Message(b"1"))
        since = Consumer(endpoint, "since", ["t"], mode=mode, start=now + timedelta(milliseconds=1))  # type: ignore[arg-type]
        latest = Consumer(endpoint, "latest", ["t"], mode=mode, start="latest")  # type: ignore[arg-type]
        async with since, latest:
            assert [message.body for message in await anext(since)] == [b"1"]
            await producer.publish("t", Message(b"2"))
            assert [message.body for message in await anext(latest)] == [b"2"]


async def test_words_of_the_other_way_are_refused(tmp_path: Path) -> None:
    async with filled(tmp_path, some(3)) as endpoint:
        async with leasing(endpoint) as consumer:
            batch = await anext(consumer)
            with pytest.raises(BadRequest, match="by lease"):
                await consumer.commit(batch)
            with pytest.raises(ModeConflict):
                async with Consumer(endpoint, "readers", ["t"]):
                    pass
        with pytest.raises(NotOpen):
            await consumer.acknowledge(batch)
        async with Consumer(endpoint, "others", ["t"]) as other:
            with pytest.raises(BadRequest, match="by offset"):
                await other.acknowledge(await anext(other))


async def test_a_restart_of_the_broker_is_waited_for_and_loses_nothing(tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with running_broker(tmp_path) as endpoint, Producer(endpoint) as producer:
            port = int(endpoint.rpartition(":")[2])
            await producer.publish_batch("t", some(40))
            consumer = await leasing(endpoint, max_messages=10).__aenter__()
            held = await anext(consumer)
        acknowledging = asyncio.create_task(consumer.acknowledge(held))
        async with running_broker(tmp_path, port=port):
            await acknowledging
            rest = await take(consumer, 30)
            await consumer.__aexit__(None, None, None)
    assert sorted([*rest, *(int(message.body) for message in held)]) == [*range(40)]


@pytest.mark.parametrize("given", [{"mode": "push"}, {"start": "soon"}])
def test_what_is_no_way_to_read_is_refused_at_once(given: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        Consumer("127.0.0.1:1", "g", ["t"], **given)  # type: ignore[arg-type]
