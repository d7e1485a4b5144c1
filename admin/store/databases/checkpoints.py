"""Moves what was committed from SQLite's log into its file, beside the writer and not in its way.

Left to itself the writer does it in the middle of its work every thousand pages, and everybody waits for the disk: 50
to 250 ms on a slow one.
"""

import sqlite3
import threading
from pathlib import Path

PERIOD_SECONDS = 0.5
MOST_PAGES = 2_000  # of 4 KiB; with more in the log, the writer does the rest, so that the log begins anew


class Checkpoints:
    """A thread with a connection of its own. Close it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closing = threading.Event()
        self._is_long = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints")
        self._thread.start()

    def finish(self, connection: sqlite3.Connection) -> None:
        """For the writer, between two transactions: where the log has grown long, moves the few pages that came since
        the last look. Only then can the log begin anew.
        """
        if self._is_long.is_set():
            self._is_long.clear()
            _move(connection)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            while not self._closing.wait(PERIOD_SECONDS):
                if _move(connection) > MOST_PAGES:
                    self._is_long.set()
        finally:
            connection.close()


def _move(connection: sqlite3.Connection) -> int:
    """Moves what can be moved without waiting for anybody; how many pages the log has."""
    try:
        _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:  # a full disk, say; whoever writes is told
        return 0
    return int(pages)
