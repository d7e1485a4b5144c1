"""Outcomes that the admin has not accepted yet, on disk: one small file each, so that a restart loses none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from filelock import FileLock, Timeout
from google.protobuf.message import DecodeError

from executor.link.convert import key_of
from executor.model import AttemptKey, ExecutorId
from protos.errors import DirectoryUnusable
from protos.executor.v1 import link_pb2 as pb

log = structlog.get_logger(__name__)

SUFFIX = ".outcome"
LOCK = "lock"
GROUP = "group"  # names the executor group: the admin believes nobody else about its runs


class Outbox:
    """The directory of one process; blocking. Its methods may be called from any thread, one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: dict[AttemptKey, pb.Outcome] = {}

    @property
    def outcomes(self) -> list[pb.Outcome]:
        """What is to be reported, oldest first."""
        return list(self._kept.values())

    def add(self, outcome: pb.Outcome) -> None:
        """Returns when the outcome is durable. Raises DirectoryUnusable."""
        key = key_of(outcome.attempt)
        self._kept[key] = outcome  # also where the disk fails: then it can be lost, but need not be
        with _usable(self._directory):
            _write(self._directory / _file_name(key), outcome.SerializeToString())

    def remove(self, key: AttemptKey) -> None:
        """The admin has it; for one that is not here nothing happens. Raises DirectoryUnusable."""
        if self._kept.pop(key, None) is not None:
            with _usable(self._directory):
                (self._directory / _file_name(key)).unlink(missing_ok=True)

    def take_over(self, directory: Path) -> None:
        """Moves the outcomes of a process that died into this outbox."""
        for path in sorted(directory.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns):
            try:
                self.add(pb.Outcome.FromString(path.read_bytes()))
            except DecodeError:
                log.error("unreadable outcome", action="outcome_unreadable", path=str(path))
        shutil.rmtree(directory)


@contextmanager
def open_outbox(data: Path, owner: ExecutorId, group: str) -> Iterator[Outbox]:
    """The outbox of this process below `data`, with what dead processes of its group have left there. Raises
    DirectoryUnusable.
    """
    root = data / "outbox"
    mine = root / owner
    own_lock = FileLock(mine / LOCK)
    with _usable(data):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCK):  # one process at a time looks for dead ones
            mine.mkdir()
            own_lock.acquire()
            (mine / GROUP).write_text(group, "utf-8")
            outbox = Outbox(mine)
            _take_over_dead(root, mine, outbox, group)
    try:
        yield outbox
    finally:
        with FileLock(root / LOCK):
            own_lock.release()
            if not outbox.outcomes:
                shutil.rmtree(mine, ignore_errors=True)


def _take_over_dead(root: Path, mine: Path, outbox: Outbox, group: str) -> None:
    for directory in sorted(path for path in root.iterdir() if path.is_dir() and path != mine):
        if _group_of(directory) not in ("", group):
            continue
        try:
            with FileLock(directory / LOCK, timeout=0):
                outbox.take_over(directory)
        except Timeout:  # its owner lives
            continue


def _group_of(directory: Path) -> str:
    """ "" where it does not say."""
    try:
        return (directory / GROUP).read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _file_name(key: AttemptKey) -> str:
    return f"{key.run_id}-{key.shard}-{key.term}{SUFFIX}"


def _write(path: Path, content: bytes) -> None:
    """A crash leaves the whole file or none."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DirectoryUnusable(path=str(directory), reason=error.strerror or str(error)) from error
