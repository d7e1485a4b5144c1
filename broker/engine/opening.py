"""Opening the engine over its data directory, checkpoints while it runs, and closing it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from broker.delivery.delay_index import DelayIndex
from broker.engine.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from broker.engine.directory import DataDirectory
from broker.engine.engine import Clock, Engine
from broker.engine.journal import Journal
from broker.log.commit_log import CommitLog, Durability
from broker.log.disk import Disk
from broker.log.index.growing import IndexMark
from broker.log.index.log_index import LogIndex
from broker.log.payload import stored_runs
from broker.producers.table import Producers
from broker.queues.builder import QueueBuilder

Die = Callable[[BaseException], None]
"""Ends the process; called where memory and disk may differ, and never returns."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, and when the log is synced."""

    segment: int
    checkpoint_every: int
    durability: Durability = Durability.FSYNC


def open_engine(directory: DataDirectory, disk: Disk, limits: Limits, clock: Clock) -> Engine:
    """Reads the checkpoint and what lies behind it in the log. Raises DirectoryUnusable, LogDamaged."""
    checkpoint = read_checkpoint(directory.checkpoint)
    queues = QueueBuilder(directory.queues, disk)
    log = CommitLog(directory.log, disk, limits.segment, limits.durability)
    log.check(checkpoint.position)
    journal = Journal(log, queues, _open_index(log, disk, checkpoint))
    if not queues.restore(checkpoint.queues):
        _rebuild(journal, checkpoint)
    engine = Engine(journal, Producers(checkpoint.producers), DelayIndex(directory.delays), clock)
    engine.delaying.catch_up(checkpoint.rooms.get("delaying"), checkpoint.position)
    log.recover(checkpoint.position, engine.replay)
    engine.delaying.settle()
    return engine


def _open_index(log: CommitLog, disk: Disk, checkpoint: Checkpoint) -> LogIndex:
    stored = checkpoint.rooms.get("log_index")
    index = LogIndex(log, disk)
    index.restore(IndexMark.of(stored) if isinstance(stored, list) else None, checkpoint.position)
    return index


def _rebuild(journal: Journal, checkpoint: Checkpoint) -> None:
    """Fills queues whose files were lost from all that is stored; everything else stays as in the checkpoint."""
    for frame in journal.log.frames(journal.log.start, checkpoint.position):
        journal.index_again(frame, stored_runs(frame))
    journal.queues.finish(checkpoint.queues)


class Checkpointer:
    """Writes a checkpoint whenever the log has grown enough, beside the writer's thread, one at a time."""

    def __init__(self, engine: Engine, directory: DataDirectory, disk: Disk, every: int, die: Die) -> None:
        self._engine = engine
        self._path = directory.checkpoint
        self._disk = disk
        self._every = every
        self._die = die
        self._last = read_checkpoint(self._path).position
        self._pool = ThreadPoolExecutor(1, "broker-checkpoint")
        self._is_writing = False

    def consider(self) -> None:
        """Called by the writer's thread between two groups: takes the state now, stores it beside."""
        if self._engine.log.written - self._last >= self._every and not self._is_writing:
            self._is_writing = True
            self._last = self._engine.log.written
            self._pool.submit(self._write, self._take())

    def _take(self) -> Checkpoint:
        engine = self._engine
        return Checkpoint(
            engine.log.written, engine.queues.held(), engine.publishing.producers.snapshot(), engine.rooms()
        )

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self._engine.log.sync()
            self._engine.queues.sync()
            write_checkpoint(self._path, checkpoint, self._disk)
            self._engine.queues.sweep(checkpoint.queues)
        except BaseException as error:
            self._die(error)
        finally:
            self._is_writing = False

    def close(self) -> None:
        """Stores the last state; the writer's thread has ended."""
        self._pool.shutdown()
        self._write(self._take())
