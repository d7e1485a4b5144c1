"""A publish stream whose client reads no answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import pytest

from broker.daemon import build
from broker.model import HolderId, ProducerId
from broker.rpc.bulk import BulkService
from broker.settings import BrokerSettings

pytestmark = pytest.mark.anyio


class Request:
    """A PublishRequest that moves the cursor; protobuf's own cannot be referenced weakly."""

    producer_id = "run/r/0"
    term = 1
    holder_id = "h"
    cursor = b"x"
    batches = ()

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence

    def HasField(self, name: str) -> bool:  # noqa: N802 - protobuf's name
        return name == "cursor"


async def test_requests_do_not_wait_for_their_answers_to_be_read(tmp_path: Path) -> None:
    alive = WeakSet[Request]()
    taken, end = asyncio.Event(), asyncio.Event()

    async def requests() -> AsyncIterator[Any]:
        for sequence in range(1, 51):
            request = Request(sequence)
            alive.add(request)
            yield request
        taken.set()
        await end.wait()

    async with build(BrokerSettings.from_env(data=tmp_path, port=0)) as house:
        await house.broker.publishing.open_producer(ProducerId("run/r/0"), 1, HolderId("h"))
        answers = BulkService(house.broker).Publish(requests(), cast(Any, None))
        assert (await anext(answers)).sequence == 1
        await asyncio.wait_for(taken.wait(), 10)
        assert len(alive) <= 2  # the one at hand, here and there
        end.set()
        assert [answer.sequence async for answer in answers] == [*range(2, 51)]
