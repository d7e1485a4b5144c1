"""The same rows by the bare driver, read by pages and dropped: the floor, and the filter that users write themselves.

A reader is a process of its own: `python -m benchmarks.executor.bare URL PARTS`, told to begin by its standard input.
"""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise

import sqlalchemy as sa

from benchmarks.executor.app import COLUMNS, TABLE
from benchmarks.executor.table import Table, psycopg_url, pymysql_options
from executor.sharding.table.pages import ROWS_A_PAGE

Ask = Callable[[str], Sequence[tuple[int, str, str]]]


@dataclass(frozen=True, slots=True)
class Part:
    """The ids behind `lower` up to `upper`; of those the ones that leave `index` when divided by `total`."""

    lower: int
    upper: int
    index: int = 0
    total: int = 1


@dataclass(frozen=True, slots=True)
class Bare:
    """What reading cost: rows per second of all readers together, and the CPU seconds of theirs."""

    rate: float
    cpu: float


def floor(table: Table, shards: int, readers: int) -> Bare:
    """Each row read once: a range of ids for each shard, the shards dealt to the readers."""
    ends = [table.rows * number // shards for number in range(shards + 1)]
    return _read(table, [Part(lower, upper) for lower, upper in pairwise(ends)], readers)


def plain_filter(table: Table, shards: int, readers: int) -> Bare:
    """`id % shards = index`: every shard goes through the whole table."""
    return _read(table, [Part(0, table.rows, index, shards) for index in range(shards)], readers)


def _read(table: Table, parts: Sequence[Part], readers: int) -> Bare:
    """Raises SystemExit where not every row was read once."""
    with ExitStack() as stack:
        streams = []
        for number in range(readers):
            mine = json.dumps([asdict(part) for part in parts[number::readers]])
            command = [sys.executable, "-m", "benchmarks.executor.bare", table.url, mine]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert process.stdin is not None
            assert process.stdout is not None
            streams.append((process.stdin, process.stdout))
        for _, output in streams:
            output.readline()  # it is connected
        began = time.perf_counter()
        for orders, _ in streams:
            orders.write(b"begin\n")
            orders.flush()
        said = [json.loads(output.readline()) for _, output in streams]
        seconds = time.perf_counter() - began
    if sum(rows for rows, _ in said) != table.rows:
        raise SystemExit(f"the bare readers read {said} of {table.rows} rows")
    return Bare(table.rows / seconds, sum(cpu for _, cpu in said))


def _count(ask: Ask, part: Part) -> int:
    """The rows of a part, read page by page."""
    is_mine = f" AND id % {part.total} = {part.index}" if part.total > 1 else ""
    count, after = 0, part.lower
    while True:
        page = ask(
            f"SELECT {', '.join(COLUMNS)} FROM {TABLE} "
            f"WHERE id > {after} AND id <= {part.upper}{is_mine} ORDER BY id LIMIT {ROWS_A_PAGE}"
        )
        count += len(page)
        if len(page) < ROWS_A_PAGE:
            return count
        after = page[-1][0]


def _connected(url: sa.URL) -> Ask:
    if url.drivername == "sqlite":
        file = sqlite3.connect(url.database or "")
        return lambda question: file.execute(question).fetchall()
    if url.drivername.startswith("postgresql"):
        import psycopg

        cursor = psycopg.connect(psycopg_url(url), autocommit=True).cursor()
        return lambda question: cursor.execute(question.encode()).fetchall()
    import pymysql

    reader = pymysql.connect(**pymysql_options(url), autocommit=True).cursor()

    def ask(question: str) -> Sequence[tuple[int, str, str]]:
        reader.execute(question)
        found: Sequence[tuple[int, str, str]] = reader.fetchall()
        return found

    return ask


def main() -> None:
    ask = _connected(sa.make_url(sys.argv[1]))
    parts = [Part(**part) for part in json.loads(sys.argv[2])]
    print("connected", flush=True)
    sys.stdin.readline()
    before = time.process_time()
    count = sum(_count(ask, part) for part in parts)
    print(json.dumps([count, time.process_time() - before]), flush=True)


if __name__ == "__main__":
    main()
