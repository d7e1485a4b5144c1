"""A real broker inside a test's process, on a free port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.daemon import build
from broker.log.commit_log import Durability
from broker.settings import BrokerSettings


def light_settings(data: Path) -> BrokerSettings:
    """On a free port and any disk, whatever the environment says, without fsync: for data that need not outlive the
    machine."""
    return BrokerSettings.model_construct(data=data, port=0, durability=Durability.OS, disk_reserve_bytes=0)


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
