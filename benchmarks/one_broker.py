"""One broker process and this process as its client: through the public client, or with requests encoded beforehand."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc.aio

from benchmarks.measure import Receive
from broker.client import Consumer, Message, Producer
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial
from protos.daemon import STOP_WITH_STDIN

READ_COUNT = 1_000
Stream: TypeAlias = "grpc.aio.StreamStreamMultiCallable[bytes, pb.PublishResponse]"  # generic in the stubs alone
_PUBLISH = "/shardcast.broker.v1.BrokerService/Publish"
_PRODUCER = "producer/bench"


@contextmanager
def running_broker(data: Path) -> Iterator[str]:
    """Where it listens; it ends with this process, however that ends."""
    command = [sys.executable, "-m", "shardcast", "broker", "--data", str(data), "--port", "0"]
    environment = {**os.environ, STOP_WITH_STDIN: "1"}
    pipe, log = subprocess.PIPE, data.with_suffix(".err")
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=environment) as process,
    ):
        try:
            ready = process.stdout.readline() if process.stdout else b""
            if not ready:
                raise SystemExit(f"the broker did not start: {log.read_text()}")
            yield json.loads(ready)["grpc"]
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Shardcast:
    """The public client; each message is built when it is published, and looked at as little as a batch allows."""

    endpoint: str
    producer: Producer
    body: bytes

    async def publish(self, topic: str, batch: int) -> None:
        if batch == 1:
            await self.producer.publish(topic, Message(self.body))
        else:
            await self.producer.publish_batch(topic, [Message(self.body) for _ in range(batch)])

    @asynccontextmanager
    async def reading(self, topic: str) -> AsyncIterator[Receive]:
        async with Consumer(self.endpoint, "bench", [topic], max_messages=READ_COUNT) as consumer:

            async def receive() -> int:
                return len(await anext(consumer))

            yield receive

    async def encoded_rate(self, topic: str, count: int, batch: int, in_flight: int) -> float:
        """Messages per second over one stream of requests that were bytes before it began."""
        requests = [_encoded(topic, sequence, [self.body] * batch) for sequence in range(1, count // batch + 1)]
        room = asyncio.Semaphore(in_flight)

        async def sending() -> AsyncIterator[bytes]:
            for request in requests:
                await room.acquire()
                yield request

        async with dial(self.endpoint) as channel:
            opening = pb.OpenProducerRequest(producer_id=_PRODUCER, term=1, holder_id=_PRODUCER)
            await BrokerServiceStub(channel).OpenProducer(opening)
            stream: Stream = channel.stream_stream(_PUBLISH, response_deserializer=pb.PublishResponse.FromString)
            began = time.perf_counter()
            async for response in stream(sending()):
                assert response.HasField("published"), response.refusal.message
                room.release()
            return count / (time.perf_counter() - began)


def _encoded(topic: str, sequence: int, bodies: list[bytes]) -> bytes:
    request = pb.PublishRequest(producer_id=_PRODUCER, term=1, holder_id=_PRODUCER, sequence=sequence)
    request.batches.add(topic=topic, bodies=bodies)
    return request.SerializeToString()
