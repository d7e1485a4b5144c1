"""Compares the calls that the provider recorded with the table, on disk, so that ten million need no memory."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROWS_A_WRITE = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """`missing` users were never called, `duplicates` calls came on top of a user's first, `unexpected` calls were for
    nobody in the table."""

    delivered: int
    missing: int
    duplicates: int
    unexpected: int

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.duplicates or self.unexpected)


def compare(ids: Iterable[str], records: Sequence[Path], scratch: Path, *, promotion_id: int | None = None) -> Verdict:
    """Compares the ids of the table with the recorded calls, those of one promotion or all of them; `scratch` is a
    database file that is made and removed."""
    scratch.unlink(missing_ok=True)
    connection = sqlite3.connect(scratch, isolation_level=None)
    try:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE audience (id TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE calls (id TEXT NOT NULL);"
        )
        _insert(connection, "INSERT INTO audience VALUES (?)", ids)
        called = (call["user_id"] for call in calls(records) if promotion_id in (None, call["promotion_id"]))
        _insert(connection, "INSERT INTO calls VALUES (?)", called)
        connection.execute("CREATE INDEX ix_calls ON calls (id)")
        return _verdict(connection)
    finally:
        connection.close()
        scratch.unlink(missing_ok=True)


def calls(records: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The recorded calls; a last line that a killed process left unfinished is none."""
    for path in records:
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield json.loads(line)


def _insert(connection: sqlite3.Connection, statement: str, values: Iterable[str]) -> None:
    source = ((value,) for value in values)
    while chunk := list(islice(source, ROWS_A_WRITE)):
        connection.execute("BEGIN")
        connection.executemany(statement, chunk)
        connection.execute("COMMIT")


def _verdict(connection: sqlite3.Connection) -> Verdict:
    def number(query: str) -> int:
        return int(connection.execute(query).fetchone()[0])

    delivered = number("SELECT COUNT(*) FROM calls")
    return Verdict(
        delivered=delivered,
        missing=number("SELECT COUNT(*) FROM audience WHERE id NOT IN (SELECT id FROM calls)"),
        duplicates=delivered - number("SELECT COUNT(DISTINCT id) FROM calls"),
        unexpected=number("SELECT COUNT(*) FROM calls WHERE id NOT IN (SELECT id FROM audience)"),
    )
