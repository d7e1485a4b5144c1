"""A group that reads a topic from its first message on, as fast as it can, until it is killed."""

import sys

import uvloop

from broker.client import Consumer


async def _read(endpoint: str, topic: str) -> None:
    async with Consumer(endpoint, "behind", [topic]) as consumer:
        await anext(consumer)
        print("reading", flush=True)
        async for _ in consumer:
            pass


if __name__ == "__main__":
    uvloop.run(_read(*sys.argv[1:]))
