"""What the machine does when nothing is in between: the ids read by pages, as many bytes as the log got written."""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import sqlalchemy as sa

from benchmarks.executor.table import psycopg_url

PAGE = 1_000

_QUESTION = "SELECT id FROM users WHERE id > {} ORDER BY id LIMIT {}"


def floor(url: str, directory: Path, message_bytes: int, users: int) -> float:
    """Messages per second of one process, with the bare driver and one fdatasync a page."""
    ask = _connected(sa.make_url(url))
    record = os.urandom(message_bytes) * PAGE
    began, after = time.perf_counter(), 0
    with (directory / "floor.log").open("wb", buffering=0) as log:
        while page := ask(_QUESTION.format(after, PAGE)):
            after = page[-1][0]
            log.write(record[: message_bytes * len(page)])
            os.fdatasync(log.fileno())
    return users / (time.perf_counter() - began)


def _connected(url: sa.URL) -> Callable[[str], Sequence[tuple[int]]]:
    if url.drivername == "sqlite":
        file = sqlite3.connect(url.database or "")
        return lambda question: file.execute(question).fetchall()
    import psycopg

    cursor = psycopg.connect(psycopg_url(url), autocommit=True).cursor()
    return lambda question: cursor.execute(question.encode()).fetchall()
