"""A real broker inside a test's process, on a free port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.daemon import build
from broker.settings import BrokerSettings


@asynccontextmanager
async def running_broker(data: Path, **settings: object) -> AsyncIterator[str]:
    """Serves over the data directory until the block ends; yields "host:port". Takes the broker's settings."""
    async with build(BrokerSettings.from_env(**{"data": data, "port": 0, **settings})) as house:
        serving = asyncio.create_task(house.run())
        try:
            yield house.endpoints["grpc"]
        finally:
            house.stop()
            await serving
