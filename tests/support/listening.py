"""Runs an app's only listener on a broker, for tests of listeners."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.client import GroupClient
from broker.model import GroupPolicy, Steps
from executor.app import Executor
from executor.running.listening.joining import BrokerGroups
from executor.running.listening.listening import Listening


@asynccontextmanager
async def listening(broker: str, app: Executor) -> AsyncIterator[None]:
    """It runs until the block ends; then it drains."""
    [listener] = app.registry.listeners
    running = Listening(listener, BrokerGroups(broker, ""))
    task = asyncio.create_task(running.run())
    try:
        async with asyncio.timeout(30):
            yield
    finally:
        running.stop()
        async with asyncio.timeout(30):
            await task


async def set_policy(broker: str, attempts: int, wait_ms: int = 1) -> None:
    """Of group `g`."""
    async with GroupClient(broker) as groups:
        await groups.alter("g", GroupPolicy(attempts, Steps((wait_ms,))))
