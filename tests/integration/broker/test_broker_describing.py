"""What the broker tells of itself, through the client and over gRPC."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.client import BrokerClient, Holder, Message, Producer, TopicClient
from broker.testing import running_broker

pytestmark = pytest.mark.anyio


async def test_a_broker_describes_itself(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, BrokerClient(endpoint) as client:
        before = await client.describe()
        assert (before.lowest_position, before.end_position, before.segments) == (0, 0, 1)
        assert before.fsync.count == 0
        async with Producer(endpoint) as producer:
            await producer.publish("orders", Message(b"a"))
        after = await client.describe()
        assert after.end_position > 0
        assert after.fsync.count == 2  # the producer was opened, the message stored
        assert 0 < after.fsync.p50_ms <= after.fsync.p99_ms <= after.fsync.max_ms
        assert (after.durability, after.damaged_frames) == ("fsync", 0)
        assert (after.log_id, after.version) == (before.log_id, before.version)
        assert after.oldest_held_by[0] == Holder("active", "", "", 0)
        assert {(held.kind, held.topic) for held in after.oldest_held_by[1:]} == {("retention", "orders")}


async def test_a_broker_without_room_says_that_it_refuses(tmp_path: Path) -> None:
    for reserve, is_refusing in ((0, False), (1 << 60, True)):
        async with (
            running_broker(tmp_path, disk_reserve_bytes=reserve) as endpoint,
            BrokerClient(endpoint) as client,
        ):
            state = await client.describe()
            assert state.is_refusing_publishes is is_refusing
            assert 0 < state.free_bytes < 1 << 60


async def test_a_topic_tells_its_delayed_messages(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as endpoint, TopicClient(endpoint) as topics:
        async with Producer(endpoint) as producer:
            later = datetime.now(UTC) + timedelta(days=1)
            await producer.publish_batch("orders", [Message(b"a"), Message(b"b", deliver_at=later)])
        topic = await topics.get("orders")
        assert (topic.messages, topic.delayed) == (1, 1)
