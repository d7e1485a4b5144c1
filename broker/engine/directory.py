"""The data directory: made or found, locked, and given the id that its messages carry."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from broker.log.disk import Disk, read_json
from broker.model import LogId
from protos.errors import DirectoryInUse, DirectoryUnusable

FORMAT = 3


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Where everything of one broker lies, held by this process until `release`."""

    root: Path
    log_id: LogId
    _lock: FileLock

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def queues(self) -> Path:
        return self.root / "queues"

    @property
    def topics(self) -> Path:
        return self.root / "topics.json"

    @property
    def delays(self) -> Path:
        return self.root / "delays.sqlite"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.json"

    def release(self) -> None:
        self._lock.release()


def random_log_id() -> LogId:
    return LogId(uuid.uuid4().hex)


def open_directory(root: Path, disk: Disk, new_log_id: Callable[[], LogId] = random_log_id) -> DataDirectory:
    """Makes the directory if it is missing and locks it. Raises DirectoryInUse, DirectoryUnusable.

    What a killed process had named and not synced yet is there to read, so it is made durable before it counts.
    """
    lock = FileLock(root / "lock", thread_local=False)
    try:
        disk.make_directory(root)
        lock.acquire(blocking=False)
        directory = DataDirectory(root, _log_id(root / "meta.json", disk, new_log_id), lock)
        for path in (directory.log, directory.queues):
            disk.make_directory(path)
        for path in (root, directory.log, directory.queues):
            disk.sync_directory(path)
    except Timeout as error:
        raise DirectoryInUse(path=root) from error
    except DirectoryUnusable:
        lock.release()
        raise
    except (OSError, ValueError, KeyError) as error:
        lock.release()
        raise DirectoryUnusable(path=root, reason=error) from error
    return directory


def _log_id(path: Path, disk: Disk, new_log_id: Callable[[], LogId]) -> LogId:
    if not path.exists():
        if any((path.parent / "log").glob("*")):
            raise ValueError(f"{path.name} is missing, which says whose the log is")
        disk.replace(path, json.dumps({"log_id": new_log_id(), "format": FORMAT}).encode())
    meta = read_json(path)
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']}; this version reads format {FORMAT}")
    return LogId(meta["log_id"])
