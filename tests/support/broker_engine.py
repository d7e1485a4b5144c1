"""An engine over a directory, commands for it, and a disk that loses power in the middle of a write."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from broker.delivery.reader import read_batch
from broker.engine.commands import OpenProducer, StorePublish
from broker.engine.directory import DataDirectory, open_directory
from broker.engine.engine import Clock, Engine
from broker.engine.opening import Limits, open_engine
from broker.log.disk import Disk
from broker.model import HolderId, LogId, ProducerId, QueueKey, Topic, TopicBatch, TopicId, TopicName
from broker.queues.encoding import encode_batch
from broker.queues.topics import Topics

TOPIC = Topic(TopicName("t"), TopicId(1), 2, 2)
LIMITS = Limits(segment=512, checkpoint_every=1 << 30)


class PowerLoss(OSError):
    """The machine stopped here."""


class FragileDisk(Disk):
    """Writes `budget` more bytes, then stops for ever; without a budget it is a plain disk."""

    def __init__(self) -> None:
        self.budget: int | None = None

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> None:
        if self.budget is None:
            super().write(fd, buffers, at)
            return
        data = b"".join(buffers)
        super().write(fd, [data[: self.budget]], at)
        self.budget -= len(data)
        if self.budget < 0:
            self.budget = 0
            raise PowerLoss

    def sync(self, fd: int) -> None:
        if self.budget is not None:
            raise PowerLoss


def clock_from(start_ms: int = 1_000) -> Clock:
    """Each look at it is one millisecond later."""
    return itertools.count(start_ms).__next__


def _die(error: BaseException) -> None:
    raise error


def topics_of(directory: DataDirectory, disk: Disk) -> Topics:
    """The topics of the directory; TOPIC if there never was one."""
    topics = Topics(directory.topics, disk, _die)
    if not directory.topics.exists():
        assert topics.create(TOPIC.name, TOPIC.write_queues) == TOPIC
    return topics


@contextmanager
def running_engine(
    path: Path, disk: Disk | None = None, clock: Clock | None = None, segment: int = LIMITS.segment
) -> Iterator[tuple[Engine, DataDirectory]]:
    """The engine over the directory, dropped without a checkpoint at the end, as a crash would."""
    disk = disk or Disk()
    directory = open_directory(path, disk, lambda: LogId("log"))
    topics = topics_of(directory, disk)
    engine = open_engine(directory, disk, replace(LIMITS, segment=segment), clock or clock_from(), topics)
    try:
        yield engine, directory
    finally:
        engine.close()
        directory.release()


def bodies_of(engine: Engine, key: QueueKey) -> list[bytes]:
    """Everything that the queue shows."""
    queue, bodies = engine.queues.queue(key), list[bytes]()
    while len(bodies) < queue.end:
        fetched = read_batch(engine.log, queue, key.topic_id, len(bodies), max_messages=1_000, max_bytes=1 << 20)
        bodies += fetched.bodies
    return bodies


def opening(producer_id: str, term: int, holder_id: str) -> OpenProducer:
    return OpenProducer(ProducerId(producer_id), term, HolderId(holder_id))


def publishing(
    producer_id: str, term: int, holder_id: str, sequence: int, *bodies: bytes, cursor: bytes | None = None
) -> StorePublish:
    """A publish of keyless messages, spread over the two queues of TOPIC from the first on."""
    runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, bodies), 0, 5)
    return StorePublish(ProducerId(producer_id), term, HolderId(holder_id), sequence, cursor, runs, 5)
