"""One run: ours, then the deep broker, then the peers; one after the other, so that none is in another's way."""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import uvloop

from benchmarks.broker.bare import Log
from benchmarks.broker.bench import NAME, Bench
from benchmarks.broker.cases import FETCH, HUNDRED, LATENCY, SINGLE, SINGLE_ENCODED, THOUSAND, THOUSAND_ENCODED
from benchmarks.broker.deep import Deep, deep_figures
from benchmarks.broker.one_broker import Shardcast, running_broker
from benchmarks.broker.peers import measure_peers
from benchmarks.figures import Figure
from broker.client import Producer

__all__ = ["NAME", "add_options", "run"]

_BODY_BYTES = 200


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=500_000, help="of batches of 1,000; other cases take fewer")
    parser.add_argument("--behind", type=int, default=10_000_000, help="stored messages of the cases that need many")
    parser.add_argument("--rocketmq", default="", metavar="PROGRAM", help="runs the peer; default $ROCKETMQ_TOOL")


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run."""
    yield from uvloop.run(_figures(options))


async def _figures(options: argparse.Namespace) -> Sequence[Figure]:
    body = os.urandom(_BODY_BYTES)
    with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as directory:
        figures = await _plain_figures(Path(directory), body, options.messages)
    with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as directory:
        deep = Deep(options.messages, options.behind, body, Path(directory), _settings())
        figures += [figure async for figure in deep_figures(deep)]
    with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as directory:
        peers = await measure_peers(Path(directory), options.rocketmq, body, options.messages)
    return [peers.beside(figure) for figure in figures]


async def _plain_figures(directory: Path, body: bytes, messages: int) -> list[Figure]:
    with running_broker(directory / "data") as running:
        async with Producer(running.endpoint, window=SINGLE.in_flight) as producer:
            shardcast = Shardcast(running.endpoint, producer, body)
            log = Log(directory / "data" / "log")
            bench = Bench(shardcast, log, directory / "floor", messages, _settings())
            return [
                await bench.publish(THOUSAND),
                await bench.fetch(FETCH, THOUSAND),
                await bench.encoded(THOUSAND_ENCODED),
                await bench.publish(HUNDRED),
                await bench.publish(SINGLE),
                await bench.encoded(SINGLE_ENCODED),
                *await bench.latency(LATENCY),
            ]


def _settings() -> Mapping[str, object]:
    return {
        "body bytes": _BODY_BYTES,
        "keys": "none",
        "queues": 4,
        "durability": "fdatasync before each acknowledgement",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
