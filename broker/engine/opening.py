"""Opening the engine over its data directory, checkpoints while it runs, and closing it."""

import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import cast

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
from broker.model import QueueKey, QueueRange
from broker.producers.table import Producers
from broker.producers.transactions import MOST_OPEN
from broker.queues.builder import QueueBuilder, Sums
from broker.queues.catalog import Catalog
from broker.queues.topics import Topics
from protos.errors import DirectoryUnusable

Die = Callable[[BaseException], None]
"""Ends the process; called where memory and disk may differ, and never returns."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, when the log is synced, and how many transactions may be open."""

    segment: int
    checkpoint_every: int
    durability: Durability = Durability.FSYNC
    open_transactions: int = MOST_OPEN


def open_engine(directory: DataDirectory, disk: Disk, limits: Limits, clock: Clock, topics: Topics) -> Engine:
    """Reads the checkpoint and what lies behind it in the log. Raises DirectoryUnusable, LogDamaged.

    Everything that was opened is closed again if it cannot be done.
    """
    try:
        with ExitStack() as opened:
            engine = _open(directory, disk, limits, clock, topics, opened=opened)
            opened.pop_all()
            return engine
    except (OSError, sqlite3.Error) as error:
        raise DirectoryUnusable(path=directory.root, reason=error) from error


def _open(
    directory: DataDirectory, disk: Disk, limits: Limits, clock: Clock, topics: Topics, *, opened: ExitStack
) -> Engine:
    checkpoint = _without_deleted(read_checkpoint(directory.checkpoint), topics)
    queues = opened.enter_context(closing(QueueBuilder(directory.queues, disk)))
    queues.forget_all_but(topics.ids())
    log = opened.enter_context(closing(CommitLog(directory.log, disk, limits.segment, limits.durability)))
    log.check(checkpoint.position)
    index = opened.enter_context(closing(_open_index(log, disk, checkpoint)))
    journal = Journal(log, queues, index, topics)
    if not queues.restore(checkpoint.queues, cast("Sums", checkpoint.rooms.get("queues", ()))):
        _rebuild(journal, checkpoint)
    delays = opened.enter_context(closing(DelayIndex(directory.delays)))
    engine = Engine(journal, Producers(checkpoint.producers), delays, Catalog(topics, queues), clock)
    _recover(engine, checkpoint, limits)
    return engine


def _recover(engine: Engine, checkpoint: Checkpoint, limits: Limits) -> None:
    """Gives the rooms what the checkpoint has of them, and then all frames behind it."""
    engine.delaying.restore(checkpoint.rooms.get("delaying"), checkpoint.position)
    engine.transacting.restore(checkpoint.rooms.get("transacting"), limits.open_transactions)
    engine.leasing.restore(checkpoint.rooms.get("leasing"))
    engine.grouping.restore(checkpoint.rooms.get("grouping", ()))
    engine.log.recover(checkpoint.position, engine.replay)
    engine.delaying.settle()
    engine.altering.settle()


def _without_deleted(checkpoint: Checkpoint, topics: Topics) -> Checkpoint:
    """The checkpoint without the queues of topics that were deleted since. Raises DirectoryUnusable."""
    topics.check({key.topic_id for key in checkpoint.queues})
    queues = {key: held for key, held in checkpoint.queues.items() if key.topic_id in topics.ids()}
    return replace(checkpoint, queues=queues)


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


@dataclass(frozen=True, slots=True)
class Stored:
    """What a start would need of the log: everything from `position` on, and what the queues hold."""

    position: int
    queues: Mapping[QueueKey, QueueRange]


class Checkpointer:
    """Writes a checkpoint whenever the log has grown enough, beside the writer's thread, one at a time."""

    def __init__(self, engine: Engine, directory: DataDirectory, disk: Disk, every: int, die: Die) -> None:
        self._engine = engine
        self._path = directory.checkpoint
        self._disk = disk
        self._every = every
        self._die = die
        stored = read_checkpoint(self._path)
        self._last = stored.position
        self._stored = Stored(stored.position, stored.queues)
        self._pool = ThreadPoolExecutor(1, "broker-checkpoint")
        self._is_writing = False

    def consider(self) -> None:
        """Called by the writer's thread between two groups: takes the state now, stores it beside."""
        has_grown = self._engine.log.written - self._last >= self._every
        if (has_grown or self._engine.retiring.is_ahead) and not self._is_writing:
            self._is_writing = True
            self._last = self._engine.log.written
            self._pool.submit(self._write, self._take())

    def _take(self) -> Checkpoint:
        engine = self._engine
        engine.retiring.is_ahead = False
        return Checkpoint(
            engine.log.written, engine.queues.held(), engine.publishing.producers.snapshot(), engine.rooms()
        )

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self._engine.log.sync()
            self._engine.queues.sync()
            write_checkpoint(self._path, checkpoint, self._disk)
            self._stored = Stored(checkpoint.position, checkpoint.queues)
            self._engine.queues.sweep(checkpoint.queues)
        except BaseException as error:
            self._die(error)
        finally:
            self._is_writing = False

    def stored(self) -> Stored:
        """What the checkpoint on disk says, once the one is stored that is just being written; from any thread.

        Everything that the log had when this was called is durable too.
        """
        self._pool.submit(self._sync).result()
        return self._stored

    def _sync(self) -> None:
        try:
            self._engine.log.sync()
        except BaseException as error:
            self._die(error)
            raise

    def close(self) -> None:
        """Stores the last state; the writer's thread has ended."""
        self._pool.shutdown()
        self._write(self._take())
