"""The engine stopped before each operation on the disk, with and without a loss of what was not synced."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from broker.delivery.reader import read_batch
from broker.delivery.retention.retiring import Retired, RetireMessages
from broker.engine.commands import DeliverDue, OpenProducer, StorePublish
from broker.engine.directory import open_directory
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer, Limits, open_engine
from broker.face.upkeep.retention import Keep, Sweeping
from broker.log.commit_log import Durability
from broker.log.disk import Disk
from broker.log.upkeep.scrubber import Scrubber
from broker.model import Attributes, HolderId, LogId, Opened, ProducerId, Published, QueueKey, TopicBatch
from broker.queues.encoding import encode_batch
from protos.errors import DirectoryUnusable
from tests.support.broker_engine import TOPIC, PowerLoss, topics_of
from tests.support.stopping_disk import StoppingDisk

RUN, HOLDER = ProducerId("run/a/0"), HolderId("h")
KEY = QueueKey(TOPIC.topic_id, 0)
SEGMENT = 500
AGE_MS = 4
ROUNDS = 18
DELAY_MS = 2
DELAYED_EACH = 8
RETIRE_EACH = 6


@dataclass
class World:
    """What was asked of the engine over all its lives, and answered."""

    now_ms: int = 1_000
    tried: int = 0
    acknowledged: int = 0
    published_at_ms: dict[int, int] = field(default_factory=dict)
    """By sequence, of the first try."""


def body_of(sequence: int) -> bytes:
    return b"%d" % sequence * 40


class Life:
    """The engine from one start to the stop of its disk."""

    def __init__(self, engine: Engine, checkpointer: Checkpointer, world: World) -> None:
        self.engine = engine
        self.checkpointer = checkpointer
        self.world = world
        keep = Keep(timedelta(milliseconds=AGE_MS), None, timedelta(days=7))
        self.sweeping = Sweeping(engine, checkpointer, keep)

    def open(self) -> int:
        (answer,) = self.engine.commit([OpenProducer(RUN, 1, HOLDER)]).answers
        assert isinstance(answer, Opened)
        return answer.last_sequence

    def publish(self, sequence: int) -> None:
        """Every eighth message is a delayed one."""
        world, is_delayed = self.world, not sequence % DELAYED_EACH
        world.tried = max(world.tried, sequence)
        world.published_at_ms[sequence] = world.now_ms
        attributes = {0: Attributes(deliver_at_ms=world.now_ms + DELAY_MS)} if is_delayed else {}
        batch = TopicBatch(TOPIC.name, [body_of(sequence)], attributes=attributes, queue=0)
        runs = encode_batch(0, TOPIC, batch, 0, world.now_ms)
        (answer,) = self.engine.commit([StorePublish(RUN, 1, HOLDER, sequence, None, runs, world.now_ms)]).answers
        assert isinstance(answer, Published), answer
        world.acknowledged = max(world.acknowledged, sequence)

    def retire(self) -> None:
        outlived = self.sweeping.outlived(self.world.now_ms)
        (retired,) = self.engine.commit([RetireMessages(outlived, timedelta(days=7))]).answers
        self.checkpointer.consider()
        assert isinstance(retired, Retired)
        self.sweeping.delete(retired, self.world.now_ms)


def scenario(life: Life) -> None:
    """Publishes, some delayed, with retention, checkpoints and seals between them."""
    first = life.open() + 1
    for sequence in range(first, first + ROUNDS):
        life.world.now_ms += 1
        life.publish(sequence)
        life.engine.commit([DeliverDue()])
        if not sequence % RETIRE_EACH:
            Scrubber(life.engine.log, lambda _: None).run_once(lambda _: False)
            life.retire()


@contextmanager
def living(path: Path, disk: Disk, world: World, policy: Durability) -> Iterator[Life]:
    """The engine over the directory; the end of the block is the end of its process."""
    died = list[BaseException]()
    directory = open_directory(path, disk, lambda: LogId("log"))
    try:
        topics = topics_of(directory, disk)
        limits = Limits(SEGMENT, 1 << 30, policy)
        engine = open_engine(directory, disk, limits, lambda: world.now_ms, topics)
        checkpointer = Checkpointer(engine, directory, disk, 1 << 30, died.append)
        try:
            yield Life(engine, checkpointer, world)
            if not died:
                checkpointer.close()
        finally:
            engine.close()
    finally:
        directory.release()
    assert all(isinstance(error, PowerLoss) for error in died), died


def check(life: Life, *, keeps_all: bool) -> None:
    """What is there is what was asked for, each once, in order; all of it that was acknowledged and is not too old."""
    world, queue = life.world, life.engine.queues.queue(KEY)
    last = life.open()
    assert last <= world.tried
    assert last >= world.acknowledged or not keeps_all
    world.acknowledged = last
    world.now_ms += DELAY_MS
    life.engine.commit([DeliverDue()])
    bodies = list[bytes]()
    while queue.lowest + len(bodies) < queue.end:
        at = queue.lowest + len(bodies)
        bodies += read_batch(life.engine.log, queue, KEY.topic_id, at, max_messages=9, max_bytes=1 << 20).bodies
    found = [int(body[: len(body) // 40]) for body in bodies]
    plain, delayed = ([each for each in found if bool(each % DELAYED_EACH) is is_plain] for is_plain in (True, False))
    expected = [each for each in range(1, last + 1) if each % DELAYED_EACH]
    assert plain == expected[len(expected) - len(plain) :]
    assert len({*delayed}) == len(delayed)
    young = {each for each in range(1, last + 1) if world.now_ms - world.published_at_ms[each] <= AGE_MS}
    assert young <= {*found} <= {*range(1, last + 1)}


def live(path: Path, disk: Disk, world: World, policy: Durability) -> None:
    with suppress(PowerLoss, DirectoryUnusable), living(path, disk, world, policy) as life:
        scenario(life)


def operations(path: Path, policy: Durability) -> int:
    disk = StoppingDisk()
    with living(path / "whole", disk, World(), policy) as life:
        scenario(life)
        assert life.engine.log.start > 0  # retention deleted something
    return disk.done


@pytest.mark.parametrize("policy", [Durability.FSYNC, Durability.OS])
@pytest.mark.parametrize("is_power_loss", [False, True])
def test_a_stop_before_any_operation_loses_and_doubles_nothing(
    tmp_path: Path, policy: Durability, is_power_loss: bool
) -> None:
    keeps_all = policy is Durability.FSYNC or not is_power_loss
    total = operations(tmp_path, policy)
    for number in range(total):
        path, world, disk = tmp_path / str(number), World(), StoppingDisk(number)
        live(path, disk, world, policy)
        if is_power_loss:
            disk.lose_power(keep=number % 3)
        again = StoppingDisk(number % 23)  # stopped once more while it recovers
        live(path, again, world, policy)
        if is_power_loss:
            again.lose_power(keep=number % 2)
        with living(path, StoppingDisk(), world, policy) as life:
            check(life, keeps_all=keeps_all)
            life.retire()
        with living(path, StoppingDisk(), world, policy) as life:
            check(life, keeps_all=True)
