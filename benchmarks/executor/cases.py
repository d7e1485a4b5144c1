"""One run of the chosen cases: each on daemons of its own, those of a database on one table."""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from benchmarks.executor import NAME
from benchmarks.executor.app import COLUMNS, TABLE, Order
from benchmarks.executor.bare import Bare, floor, plain_filter
from benchmarks.executor.course import Course, Trial, hold
from benchmarks.executor.table import Table, filled
from benchmarks.figures import Figure
from benchmarks.servers import Skipped
from executor.settings import ExecutorSettings
from executor.sharding.table.pages import ROWS_A_PAGE
from executor.sharding.table.planning import ask, make_plan
from executor.sharding.table.source import TableSource

WORDS = {1_000_000: "one million", 10_000_000: "ten million"}


def run(options: argparse.Namespace) -> Iterator[Figure]:
    for database in options.databases:
        try:
            with _table(database, options.rows) as (table, directory):
                yield from _rates(table, directory, options)
        except Skipped as reason:
            _say(f"{database}: skipped: {reason}")
    for rows in options.memory_rows:
        with _table(options.databases[0], rows) as (table, directory):
            yield from _memory(table, directory, options)


@contextmanager
def _table(database: str, rows: int) -> Iterator[tuple[Table, Path]]:
    """With a directory for the data of daemons."""
    with tempfile.TemporaryDirectory(prefix="shardcast-bench-") as directory:
        began = time.perf_counter()
        with filled(database, rows, Path(directory)) as table:
            _say(f"{database}: {rows:,} rows written in {time.perf_counter() - began:.0f} s")
            yield table, Path(directory)


def _rates(table: Table, directory: Path, options: argparse.Namespace) -> Iterator[Figure]:
    for executors in options.executors:
        many = f" {executors} executors" if executors > 1 else ""
        bare, plain = floor(table, options.shards, executors), plain_filter(table, options.shards, executors)
        _say(f"{table.database}{many}: the floor is {bare.rate:,.0f} rows/s, a plain filter {plain.rate:,.0f} rows/s")
        for strategy in options.strategies:
            trial = _trial(table, strategy, executors, options)
            course = _held(trial, directory)
            _say(f"{table.database}{many}: {strategy}: {course.rate:,.0f} rows/s")
            settings = {**_settings(trial, course), **_readers(bare, plain)}
            case = f"rows {strategy} {table.database}{many}"
            yield Figure(NAME, case, course.rate, "rows/s", bare.rate, {"plain filter": plain.rate}, settings)


def _memory(table: Table, directory: Path, options: argparse.Namespace) -> Iterator[Figure]:
    bare = floor(table, options.shards, 1)
    trial = _trial(table, "ranges", 1, options)
    course = _held(trial, directory)
    settings = _settings(trial, course)
    words = WORDS.get(table.rows, table.rows)
    yield Figure(NAME, f"{words} ranges", course.rate, "rows/s", bare.rate, settings=settings)
    yield Figure(NAME, f"peak memory executor {table.rows}", max(course.peak_mb), "MiB", settings=settings)


def _trial(table: Table, strategy: str, executors: int, options: argparse.Namespace) -> Trial:
    is_indexed = strategy == "indexed"
    order = Order(strategy="ranges" if strategy == "ranges" else "hash", is_indexed=is_indexed, batch=options.batch)
    return Trial(table, order, options.shards, executors)


def _held(trial: Trial, directory: Path) -> Course:
    with tempfile.TemporaryDirectory(dir=directory) as data:
        return asyncio.run(hold(trial, Path(data)))


def _plan_seconds(trial: Trial) -> float:
    """What making the run's plan takes, measured here, alone."""
    engine = sa.create_engine(trial.table.url)
    try:
        source = TableSource(engine, TABLE, columns=COLUMNS)
        began = time.perf_counter()
        make_plan(source, ask(source, trial.shards, trial.order.strategy, trial.order.bucket))
        return time.perf_counter() - began
    finally:
        engine.dispose()


def _settings(trial: Trial, course: Course) -> Mapping[str, object]:
    return {
        "rows": trial.table.rows,
        "shards": trial.shards,
        "executors": trial.executors,
        "slots each": ExecutorSettings.model_fields["slots"].default,
        "rows a shard": f"{min(course.rows):,} to {max(course.rows):,}, spread {course.spread:.1%}",
        "seconds from the first start of a shard to the end of the run": round(course.seconds, 3),
        "seconds to plan, alone": round(_plan_seconds(trial), 3),
        **{f"CPU seconds {kind}": round(seconds, 2) for kind, seconds in course.cpu.items()},
        "peak MiB of each executor": ", ".join(f"{peak:.0f}" for peak in course.peak_mb),
        "batch": trial.order.batch,
        "durability": "fdatasync before each acknowledgement",
        "database": f"{trial.table.database} {trial.table.version}",
        "sqlalchemy": sa.__version__,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def _readers(bare: Bare, plain: Bare) -> Mapping[str, object]:
    alike = f"by pages of {ROWS_A_PAGE:,} and the bare driver, dropped; a process for each executor"
    return {
        "floor": f"the rows once, by ranges, {alike}; CPU seconds {bare.cpu:.2f}",
        "plain filter": f"id % shards = index, each shard for itself, {alike}; CPU seconds {plain.cpu:.2f}",
    }


def _say(line: str) -> None:
    """Progress, beside the figures."""
    print(line, file=sys.stderr, flush=True)
