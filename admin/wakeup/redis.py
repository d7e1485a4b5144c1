"""Rings carried by Redis: publish and subscribe on one channel; nothing is stored there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from admin.wakeup.shared import SharedWakeup


@dataclass(frozen=True, slots=True)
class RedisConnection:
    """Implements Connection."""

    _client: Redis
    _heard: PubSub
    _channel: str

    async def send(self, message: str) -> None:
        await self._client.publish(self._channel, message)

    async def received(self) -> AsyncIterator[str]:
        async for message in self._heard.listen():
            if message["type"] == "message":
                yield message["data"].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class RedisCarrier:
    """Implements Carrier."""

    url: str
    channel: str

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[RedisConnection]:
        """It does not try again by itself: who connects does."""
        client = Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))
        async with client, client.pubsub() as heard:
            await heard.subscribe(self.channel)
            await heard.get_message(timeout=None)  # that it has subscribed
            yield RedisConnection(client, heard, self.channel)


class RedisWakeup(SharedWakeup):
    """Implements Wakeup for the admins that share a Redis and a namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__(RedisCarrier(url, f"{namespace}:wakeup"))
