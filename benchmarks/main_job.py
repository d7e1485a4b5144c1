"""The main job: a table to acknowledged messages to recorded deliveries, beside the bare reading and writing of it."""

import argparse
import asyncio
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from shardcast.demo import audience
from shardcast.demo.campaign import Campaign, hold
from shardcast.demo.report import Report

BATCH = 1_000
NAME = "main_job"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, nargs="+", default=[1_000_000], help="sizes of the table, one run each")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--executors", type=int, default=2)
    parser.add_argument("--consumers", type=int, default=2)


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one run for each size of the table."""
    for users in options.users:
        with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as directory:
            yield from _one(users, options, Path(directory))


@dataclass(frozen=True, slots=True)
class Floor:
    """What the machine does when nothing is in between, in messages or ids per second."""

    messages: float
    ids: float


def _one(users: int, options: argparse.Namespace, directory: Path) -> Iterator[Figure]:
    crowd = audience.generated(directory / "audience.db", users)
    campaign = Campaign(crowd, directory, options.shards, options.executors, options.consumers)
    report = asyncio.run(hold(campaign, lambda published, delivered: None))
    if not report.is_exact:
        raise SystemExit(f"the run was not exact: {report.as_json()}")
    logged = sum(segment.stat().st_size for segment in (directory / "broker" / "log").glob("*.log"))
    floor = _floor(directory, logged // max(users, 1), users)
    settings = _settings(users, options)
    rates = (
        Figure(
            NAME, "publish durable", users / report.publish_seconds, "messages/s", floor.messages, settings=settings
        ),
        Figure(NAME, "deliver", report.messages_per_second, "messages/s", floor.messages, settings=settings),
        Figure(NAME, "ids scanned", _ids_per_second(report), "ids/s", floor.ids, settings=settings),
    )
    yield from rates
    for kind, peak in report.peak_rss_mb.items():
        yield Figure(NAME, f"peak memory {kind}", peak, "MiB", settings=settings)


def _ids_per_second(report: Report) -> float:
    """Every shard reads all ids and keeps its own."""
    return report.audience * report.shards / report.publish_seconds


def _floor(directory: Path, message_bytes: int, users: int) -> Floor:
    """Reads the table once by key pages with the bare driver, and writes as many bytes as the log got to one file with
    one fdatasync per batch."""
    database = sqlite3.connect(directory / "audience.db")
    record = os.urandom(message_bytes) * BATCH
    began = time.perf_counter()
    after, scanned = 0, 0.0
    with (directory / "floor.log").open("wb", buffering=0) as log:
        while True:
            reading = time.perf_counter()
            page = database.execute("SELECT id FROM users WHERE id > ? ORDER BY id LIMIT ?", (after, BATCH)).fetchall()
            scanned += time.perf_counter() - reading
            if not page:
                break
            after = page[-1][0]
            log.write(record[: message_bytes * len(page)])
            os.fdatasync(log.fileno())
    seconds = time.perf_counter() - began
    database.close()
    return Floor(messages=users / seconds, ids=users / max(scanned, 1e-9))


def _settings(users: int, options: argparse.Namespace) -> dict[str, object]:
    return {
        "users": users,
        "shards": options.shards,
        "executors": options.executors,
        "consumers": options.consumers,
        "batch": BATCH,
        "durability": "fsync before each acknowledgement",
        "database": "sqlite",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
