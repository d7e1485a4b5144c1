"""One broker process and this process as its client: through the public client, or with requests encoded beforehand."""

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc.aio

from benchmarks.broker.cases import READ_COUNT
from benchmarks.broker.measure import Receive
from broker.client import Consumer, Message, Producer
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial
from protos.daemon import STOP_WITH_STDIN
from shardcast.demo.memory import peak_rss_mb

Stream: TypeAlias = "grpc.aio.StreamStreamMultiCallable[bytes, pb.PublishResponse]"  # generic in the stubs alone
_PUBLISH = "/shardcast.broker.v1.BrokerService/Publish"


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """Where it listens, and how long it took to say so."""

    endpoint: str
    pid: int
    start_seconds: float

    def peak_rss_mb(self) -> float:
        """In MiB, since it began."""
        return peak_rss_mb(self.pid)


@contextmanager
def running_broker(data: Path) -> Iterator[RunningBroker]:
    """It is stopped at the end, and ends with this process, however that ends."""
    command = [sys.executable, "-m", "shardcast", "broker", "--data", str(data), "--port", "0"]
    environment = {**os.environ, STOP_WITH_STDIN: "1"}
    pipe, log = subprocess.PIPE, data.with_suffix(".err")
    began = time.perf_counter()
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=environment) as process,
    ):
        try:
            ready = process.stdout.readline() if process.stdout else b""
            if not ready:
                raise SystemExit(f"the broker did not start: {log.read_text()}")
            yield RunningBroker(json.loads(ready)["grpc"], process.pid, time.perf_counter() - began)
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
        async with Consumer(self.endpoint, f"bench-{topic}", [topic], max_messages=READ_COUNT) as consumer:

            async def receive() -> int:
                return len(await anext(consumer))

            yield receive

    async def encoded_rate(self, topic: str, count: int, batch: int, in_flight: int) -> float:
        """Messages per second over one stream of requests that were bytes before it began."""
        opening = pb.OpenProducerRequest(producer_id=f"producer/{uuid.uuid4().hex}", term=1, holder_id="bench")
        numbers = range(1, count // batch + 1)
        requests = [_encoded(opening, topic, sequence, [self.body] * batch) for sequence in numbers]
        room = asyncio.Semaphore(in_flight)

        async def sending() -> AsyncIterator[bytes]:
            for request in requests:
                await room.acquire()
                yield request

        async with dial(self.endpoint) as channel:
            await BrokerServiceStub(channel).OpenProducer(opening)
            stream: Stream = channel.stream_stream(_PUBLISH, response_deserializer=pb.PublishResponse.FromString)
            began = time.perf_counter()
            async for response in stream(sending()):
                assert response.HasField("published"), response.refusal.message
                room.release()
            return count / (time.perf_counter() - began)


def _encoded(opened: pb.OpenProducerRequest, topic: str, sequence: int, bodies: list[bytes]) -> bytes:
    request = pb.PublishRequest(
        producer_id=opened.producer_id, term=opened.term, holder_id=opened.holder_id, sequence=sequence
    )
    request.batches.add(topic=topic, bodies=bodies)
    return request.SerializeToString()
