"""A broker that holds many messages: a group far behind, those who publish beside it, memory, and start-up."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.broker.bare import Log
from benchmarks.broker.bench import NAME, Bench
from benchmarks.broker.cases import FETCH_BEHIND, THOUSAND, WHILE_BEHIND
from benchmarks.broker.measure import fetch_rate, publish_rate
from benchmarks.broker.one_broker import RunningBroker, Shardcast, running_broker
from benchmarks.figures import Figure
from broker.client import Consumer, Producer

TOPICS = 64
GROUPS = 32
_DEEP = "deep"
_FEW = 1_000  # messages of each other topic
_BEHIND_SHARE = 4  # of the messages that are behind, a fetch rate takes one in so many


@dataclass(frozen=True, slots=True)
class Deep:
    """How deep, with what, and where."""

    messages: int
    behind: int
    body: bytes
    directory: Path
    settings: Mapping[str, object]


async def deep_figures(deep: Deep) -> AsyncIterator[Figure]:
    """Fills a broker, measures it, stops it and starts it again."""
    data = deep.directory / "data"
    settings = {**deep.settings, "stored": deep.behind, "topics": TOPICS, "groups": GROUPS}
    async with AsyncExitStack() as stack:
        running = stack.enter_context(running_broker(data))
        bench = await stack.enter_async_context(_bench(deep, running))
        await _fill(bench.shardcast, deep.behind)
        yield await _fetch_behind(bench, deep.behind)
        yield await _publish_while_behind(bench)
        yield Figure(NAME, "memory", running.peak_rss_mb(), "MiB", settings=settings)
    with running_broker(data) as running:
        yield Figure(NAME, "start-up", running.start_seconds, "s", _bare_start_seconds(), settings=settings)


@asynccontextmanager
async def _bench(deep: Deep, running: RunningBroker) -> AsyncIterator[Bench]:
    async with Producer(running.endpoint) as producer:
        shardcast = Shardcast(running.endpoint, producer, deep.body)
        log = Log(deep.directory / "data" / "log")
        yield Bench(shardcast, log, deep.directory / "floor", deep.messages, deep.settings)


async def _fill(shardcast: Shardcast, behind: int) -> None:
    """One topic holds nearly everything; each group has read some of two others."""
    await publish_rate(shardcast, _DEEP, behind, THOUSAND.batch, THOUSAND.in_flight)
    others = [f"other-{number}" for number in range(TOPICS - 1)]
    for topic in others:
        await shardcast.publish(topic, _FEW)
    for number in range(GROUPS):
        topics = [others[number % len(others)], others[-1 - number % len(others)]]
        async with Consumer(shardcast.endpoint, f"group-{number}", topics) as consumer:
            await consumer.commit(await anext(consumer))


async def _fetch_behind(bench: Bench, behind: int) -> Figure:
    """By a group that has read nothing yet, of a log that is on disk only."""
    count = max(behind // _BEHIND_SHARE, FETCH_BEHIND.batch)
    bench.log.drop_cache()
    rate = await fetch_rate(bench.shardcast, _DEEP, count)
    bench.log.drop_cache()
    size = bench.log.end
    floor = behind / bench.log.read_seconds()
    settings = bench.of(FETCH_BEHIND, f"{size:,} bytes of the log, read from disk")
    return Figure(NAME, FETCH_BEHIND.name, rate, "messages/s", floor, settings={**settings, "behind": behind})


async def _publish_while_behind(bench: Bench) -> Figure:
    """First alone, then while another process reads from the first message on as fast as it can."""
    alone = await bench.publish(WHILE_BEHIND)
    bench.log.drop_cache()
    with _reader(bench.shardcast.endpoint):
        beside = await bench.publish(WHILE_BEHIND)
    slower = f"{1 - beside.value / alone.value:.0%}"
    settings = {**beside.settings, "alone": round(alone.value), "slower than alone by": slower}
    return Figure(NAME, beside.case, beside.value, beside.unit, beside.floor, settings=settings)


@contextmanager
def _reader(endpoint: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.broker.reader", endpoint, _DEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            if not (process.stdout and process.stdout.readline()):
                raise SystemExit("the reader did not start")
            yield
        finally:
            process.kill()


def _bare_start_seconds() -> float:
    """How long a process takes that only imports what every daemon needs."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import grpc.aio, structlog, uvloop"], check=True, env={**os.environ})
    return time.perf_counter() - began
