"""The index of delayed messages: an SQLite file derived from the log, read by due time.

The log is the truth. The file knows up to which position of the log it is complete, so that opening looks only at what
lies behind; one that is missing, older than the checkpoint, ahead of the log or damaged is made again from the log.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from broker.delivery.delays import Stretch
from broker.model import QueueKey, TopicId

_VERSION = 1
_BUCKET = 16 << 20  # bytes of the log whose delayed messages are counted together
_PAGES = 4_000  # of the write-ahead log before it is folded in: 16 MiB
_CACHE_KIB = 16 << 10
_TABLES = """
CREATE TABLE delayed (
    due_ms INTEGER, position INTEGER, size INTEGER, count INTEGER, topic_id INTEGER, queue INTEGER,
    placed_over INTEGER,
    PRIMARY KEY (due_ms, position)
) WITHOUT ROWID;
CREATE TABLE counts (topic_id INTEGER, bucket INTEGER, count INTEGER, PRIMARY KEY (topic_id, bucket)) WITHOUT ROWID;
CREATE TABLE complete (position INTEGER);
INSERT INTO complete VALUES (0);
"""
_ADD = "INSERT INTO delayed VALUES (?, ?, ?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM delayed WHERE due_ms = ? AND position = ?"
_FORGET = "DELETE FROM delayed WHERE topic_id = ?"
_DUE = "SELECT * FROM delayed WHERE due_ms <= ? AND position < ? ORDER BY due_ms, position LIMIT ?"
_FIND = "SELECT * FROM delayed WHERE due_ms = ? AND position <= ? ORDER BY position DESC LIMIT 1"
_NEXT = "SELECT due_ms FROM delayed ORDER BY due_ms LIMIT 1"


class DelayIndex:
    """For the writer's thread; any thread may ask how many there are and for the lowest.

    Changes count for later calls at once and last when they are committed, many together, because due times that are
    spread over days touch a page each. Not synced: a power loss may take the last commits, and never leaves a part of
    one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._rows = self._connect()
        try:
            self._prepare()
            self._load()
        except sqlite3.DatabaseError:
            self._drop()
            self._rows = self._connect()
            self._prepare()
            self._load()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    def _prepare(self) -> None:
        """Raises sqlite3.DatabaseError for a damaged file, or one of another version."""
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = NORMAL")
        self._rows.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
        self._rows.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        (version,) = self._rows.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._rows.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {_VERSION};COMMIT")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"version {version}")

    def _load(self) -> None:
        """Raises sqlite3.DatabaseError for a damaged file."""
        (found,) = self._rows.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        self.complete = int(self._rows.execute("SELECT position FROM complete").fetchone()[0])
        self._counts = Counter({(topic, bucket): n for topic, bucket, n in self._rows.execute("SELECT * FROM counts")})
        self._changed: set[tuple[int, int]] = set()
        self._uncommitted = 0

    def _drop(self) -> None:
        self._rows.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def clear(self) -> None:
        """As if the file had been lost."""
        self._drop()
        self._open()

    def add(self, added: Iterable[Stretch]) -> None:
        """Takes what was published."""
        added = [*added]
        self._begin(len(added))
        self._rows.executemany(_ADD, [(s.due_ms, s.position, s.size, s.count, *s.key, s.placed_over) for s in added])
        for stretch in added:
            self._count(stretch, stretch.count)

    def remove(self, removed: Iterable[Stretch]) -> None:
        """Drops what was delivered."""
        removed = [*removed]
        self._begin(len(removed))
        self._rows.executemany(_REMOVE, [(s.due_ms, s.position) for s in removed])
        for stretch in removed:
            self._count(stretch, -stretch.count)

    def forget(self, topic_id: TopicId) -> None:
        """Drops all of a topic, by looking at everything that is here; nothing if the topic has none."""
        counted = [key for key, count in self._counts.items() if key[0] == topic_id and count]
        if counted:
            self._begin(len(counted))
            self._rows.execute(_FORGET, (topic_id,))
            self._changed.update(counted)
            for key in counted:
                self._counts[key] = 0

    def topics(self) -> set[TopicId]:
        """Those that have delayed messages."""
        return {TopicId(topic_id) for (topic_id, _), count in self._counts.items() if count}

    def due(self, now_ms: int, before: int, most: int, most_bytes: int) -> list[Stretch]:
        """By due time and position: at least one that is due and lies before that position, and as many records and
        bytes as are allowed."""
        taken = _Allowance(most, most_bytes)
        return [*takewhile(taken, self._read(_DUE, now_ms, before, most))]

    def next_due_ms(self) -> int | None:
        """When the next message is due; None: there are none."""
        found = self._rows.execute(_NEXT).fetchone()
        return int(found[0]) if found else None

    def get(self, due_ms: int, position: int) -> Stretch | None:
        """The one that begins at this position of the log."""
        found = self.find(due_ms, position)
        return found if found is not None and found.position == position else None

    def find(self, due_ms: int, position: int) -> Stretch | None:
        """The one that covers this position of the log."""
        found = next(self._read(_FIND, due_ms, position), None)
        return found if found is not None and position < found.end else None

    def commit(self, complete: int, least: int = 1) -> None:
        """Everything up to this position of the log is in here; stored if so many stretches changed at least."""
        if self._uncommitted >= least:
            counts = [(*key, self._counts[key]) for key in self._changed]
            self._rows.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", counts)
            self._rows.execute("DELETE FROM counts WHERE count = 0")
            self._rows.execute("UPDATE complete SET position = ?", (complete,))
            self._rows.execute("COMMIT")
            for key in self._changed:
                if not self._counts[key]:
                    del self._counts[key]
            self._changed.clear()
            self._uncommitted = 0
            self.complete = complete

    def pending(self, topic_id: TopicId) -> int:
        """Messages of the topic that are not due yet."""
        return sum(count for (topic, _), count in [*self._counts.items()] if topic == topic_id)

    def lowest(self) -> tuple[int, TopicId] | None:
        """No delayed message lies before this position of the log; a topic of the first ones; None: there are none."""
        pending = ((bucket, topic) for (topic, bucket), count in [*self._counts.items()] if count > 0)
        bucket, topic = min(pending, default=(None, None))
        return None if bucket is None or topic is None else (bucket * _BUCKET, TopicId(topic))

    def close(self) -> None:
        self._rows.close()

    def _begin(self, changes: int) -> None:
        if not self._rows.in_transaction:
            self._rows.execute("BEGIN")
        self._uncommitted += changes

    def _read(self, query: str, *given: int) -> Iterator[Stretch]:
        for due_ms, position, size, count, topic_id, queue, placed_over in self._rows.execute(query, given):
            yield Stretch(due_ms, position, size, count, QueueKey(TopicId(topic_id), queue), placed_over)

    def _count(self, stretch: Stretch, change: int) -> None:
        key = (stretch.key.topic_id, stretch.position // _BUCKET)
        self._counts[key] += change
        self._changed.add(key)


class _Allowance:
    """Says yes to the first one, and then as long as there is room."""

    def __init__(self, records: int, size: int) -> None:
        self._records, self._size, self._is_first = records, size, True

    def __call__(self, stretch: Stretch) -> bool:
        self._records -= stretch.count
        self._size -= stretch.size
        is_first, self._is_first = self._is_first, False
        return is_first or (self._records >= 0 and self._size >= 0)
