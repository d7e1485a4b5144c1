"""The floor under a scheduler: the least that a database must do for so many fires, with the bare driver.

For each fire a run is written, becomes assigned, becomes finished, and its job's next fire time moves; what is due in
the same 10 ms shares a transaction, which is durable when it ends.
"""

import importlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.scheduler.databases import Database

TICKS_A_SECOND = 100
DESCRIPTION = "bare driver, no waiting: 1 insert and 3 updates a fire, a durable transaction per 10 ms of fires"
_TICKS = 100
_JOBS = "CREATE TABLE floor_jobs (id BIGINT PRIMARY KEY, next_fire BIGINT NOT NULL)"
_RUNS = """CREATE TABLE floor_runs (id BIGINT PRIMARY KEY, job BIGINT NOT NULL, fire BIGINT NOT NULL,
state SMALLINT NOT NULL, term BIGINT NOT NULL, ended BIGINT)"""
_ROWS = (
    "INSERT INTO floor_runs VALUES (?1, ?2, ?3, 0, 0, NULL)",
    "UPDATE floor_jobs SET next_fire = ?3 WHERE id = ?2 AND ?1 >= 0",
    "UPDATE floor_runs SET state = 1, term = term + 1 WHERE id = ?1 AND job = ?2 AND fire = ?3",
    "UPDATE floor_runs SET state = 2, ended = ?3 WHERE id = ?1 AND job = ?2",
)
_DUE = "unnest(%(run)s::bigint[], %(job)s::bigint[], %(fire)s::bigint[]) AS due(run, job, fire)"
_LISTS = (
    f"INSERT INTO floor_runs SELECT run, job, fire, 0, 0, NULL FROM {_DUE}",
    f"UPDATE floor_jobs SET next_fire = due.fire FROM {_DUE} WHERE id = due.job",
    f"UPDATE floor_runs SET state = 1, term = term + 1 FROM {_DUE} WHERE id = due.run",
    f"UPDATE floor_runs SET state = 2, ended = due.fire FROM {_DUE} WHERE id = due.run",
)
_LAG = (0, 0, 0, 1)  # ticks that a step comes behind the fire

Rows = Sequence[tuple[int, int, int]]
Apply = Callable[[Sequence[tuple[str, Rows]]], None]
"""Runs statements, each for its rows, in one transaction."""


def fires_a_second(database: Database, directory: Path, rate: int) -> float:
    """How many the bare driver gets through, in transactions of as many as are due in 10 ms at the rate."""
    return _on_sqlite(directory, rate) if database.name == "sqlite" else _on_postgresql(database.url, rate)


def _on_sqlite(directory: Path, rate: int) -> float:
    with closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _JOBS, _RUNS):
            connection.execute(statement)
        connection.executemany("INSERT INTO floor_jobs VALUES (?, 0)", [(number,) for number in range(rate)])

        def apply(steps: Iterable[tuple[str, Rows]]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for statement, rows in steps:
                connection.executemany(statement, rows)
            connection.execute("COMMIT")

        return _rate(apply, _ROWS, rate)


def _on_postgresql(url: str, rate: int) -> float:
    psycopg = importlib.import_module("psycopg")
    with closing(psycopg.connect(url, autocommit=True)) as connection, connection.cursor() as cursor:
        for statement in ("DROP TABLE IF EXISTS floor_jobs, floor_runs", _JOBS, _RUNS):
            cursor.execute(statement)
        cursor.execute("INSERT INTO floor_jobs SELECT number, 0 FROM generate_series(0, %s) AS number", (rate - 1,))

        def apply(steps: Iterable[tuple[str, Rows]]) -> None:
            with connection.transaction():
                for statement, rows in steps:
                    lists = map(list, zip(*rows, strict=True))
                    cursor.execute(statement, dict(zip(("run", "job", "fire"), lists, strict=True)))

        return _rate(apply, _LISTS, rate)


def _rate(apply: Apply, statements: Sequence[str], rate: int) -> float:
    size = max(rate // TICKS_A_SECOND, 1)
    ticks: list[Rows] = [
        [(tick * size + index, (tick * size + index) % rate, 10 * tick) for index in range(size)]
        for tick in range(_TICKS)
    ]
    began = time.perf_counter()
    for tick in range(_TICKS + max(_LAG)):
        due = [(statement, tick - lag) for statement, lag in zip(statements, _LAG, strict=True)]
        apply([(statement, ticks[which]) for statement, which in due if 0 <= which < _TICKS])
    return _TICKS * size / (time.perf_counter() - began)
