"""Members that want some tags alone: what they do not want counts as done."""

import asyncio
from pathlib import Path

import pytest

from broker.client import Batch, Consumer, GroupClient, Message, Producer
from broker.client.consuming import by_offset
from broker.testing import running_broker

pytestmark = pytest.mark.anyio


async def publish(endpoint: str, tag: str, count: int = 1) -> None:
    async with Producer(endpoint) as producer:
        await producer.publish_batch("t", [Message(b"x", key="k", tag=tag) for _ in range(count)])


async def lag(endpoint: str) -> int:
    async with GroupClient(endpoint) as groups:
        return (await groups.get("g")).lag


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where fetches ended that found nothing, which they say soon."""
    monkeypatch.setattr(by_offset, "FETCH_WAIT_MS", 20)
    fetch, ends = by_offset.OffsetReader._fetch, list[int]()

    async def counted(reader: by_offset.OffsetReader, key: tuple[str, int], generation: int, offset: int) -> Batch:
        batch = await fetch(reader, key, generation, offset)
        if not len(batch):
            ends.append(batch.next_offset)
        return batch

    monkeypatch.setattr(by_offset.OffsetReader, "_fetch", counted)
    return ends


async def test_by_offset_what_nobody_wants_is_done_although_nothing_that_is_wanted_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = counted_looks(monkeypatch)
    async with running_broker(tmp_path) as endpoint, asyncio.timeout(20):
        await publish(endpoint, "other", 5)
        async with Consumer(endpoint, "g", ["t"], tags=["ours"]) as consumer:
            while await lag(endpoint):
                await asyncio.sleep(0.01)
            await publish(endpoint, "ours")
            batch = await anext(consumer)
            await publish(endpoint, "other", 5)
            while max(looks) < 11:
                await asyncio.sleep(0.01)
            looks.clear()
            while looks.count(11) < 2:
                await asyncio.sleep(0.01)
            assert await lag(endpoint) == 6, "what was handed out is not done before it is committed"
            await consumer.commit(batch)
            while await lag(endpoint):
                await asyncio.sleep(0.01)
