"""Retention of an engine against lists: nothing young goes, nothing is garbled, whatever a crash falls between."""

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.delivery.reader import read_batch
from broker.delivery.retention.retiring import Retired, RetireMessages
from broker.engine.commands import DeliverDue, StorePublish
from broker.engine.directory import DataDirectory
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer
from broker.face.upkeep.retention import Keep, Sweeping
from broker.log.disk import Disk
from broker.model import Attributes, HolderId, ProducerId, QueueKey, TopicBatch
from broker.queues.encoding import encode_batch
from tests.support.broker_engine import TOPIC, opening, running_engine

AGE_MS = 4
KEYS = [QueueKey(TOPIC.topic_id, number) for number in range(TOPIC.read_queues)]
Step = int | Literal["retire", "store", "delete", "crash"]
STEPS = st.lists(st.one_of(st.integers(1, 5), st.sampled_from(["retire", "store", "delete", "crash"])), max_size=40)


class Model:
    """All that was ever published by queue, with its time; `now_ms` is the number of the publish."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.published: dict[QueueKey, list[tuple[int, bytes]]] = {key: [] for key in KEYS}
        self.lowest: dict[QueueKey, int] = dict.fromkeys(KEYS, 0)
        self.stored_lowest = self.lowest

    def outlived(self, key: QueueKey) -> int:
        return sum(at_ms < self.now_ms - AGE_MS for at_ms, _ in self.published[key])


class Run:
    """One life of the engine."""

    def __init__(self, engine: Engine, directory: DataDirectory, model: Model) -> None:
        self.engine = engine
        self.model = model
        self.checkpointer = Checkpointer(engine, directory, Disk(), 1 << 30, pytest.fail)
        keep = Keep(timedelta(milliseconds=AGE_MS), None, timedelta(days=7))
        self.sweeping = Sweeping(engine, self.checkpointer, keep)

    def publish(self, messages: int) -> None:
        model = self.model
        model.now_ms += 1
        bodies = [b"%d/%d" % (model.now_ms, number) for number in range(messages)]
        runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, bodies), 0, model.now_ms)
        command = StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), model.now_ms, None, runs, model.now_ms)
        self.engine.commit([command])
        left = iter(bodies)
        for run in runs:
            model.published[run.key] += [(model.now_ms, next(left)) for _ in run.records.sizes]

    def retire(self) -> None:
        outlived = self.sweeping.outlived(self.model.now_ms)
        self.engine.commit([RetireMessages(outlived, timedelta(days=7))])
        self.model.lowest = {key: self.model.outlived(key) for key in KEYS}

    def store(self) -> None:
        """A checkpoint, if the lowest offsets have moved."""
        self.checkpointer.consider()
        self.checkpointer.stored()
        self.model.stored_lowest = self.model.lowest

    def delete(self) -> None:
        (retired,) = self.engine.commit([RetireMessages({}, timedelta(days=7))]).answers
        assert isinstance(retired, Retired)
        self.sweeping.delete(retired, self.model.now_ms)

    def check(self) -> None:
        for key, published in self.model.published.items():
            queue = self.engine.queues.queue(key)
            assert (queue.lowest, queue.end) == (self.model.lowest[key], len(published))
            if queue.lowest < queue.end:
                fetched = read_batch(
                    self.engine.log, queue, key.topic_id, queue.lowest, max_messages=1_000, max_bytes=1 << 20
                )
                assert [*zip(fetched.published_at_ms, fetched.bodies, strict=True)] == published[queue.lowest :]


@settings(deadline=None, max_examples=60)
@example([5] * 8 + ["retire", "store"] + [5] * 8 + ["retire", "delete", "crash"])
@given(STEPS)
def test_nothing_young_goes_and_nothing_is_garbled(steps: list[Step]) -> None:
    model = Model()
    with TemporaryDirectory() as path:
        for life in _lives(steps):
            model.lowest = model.stored_lowest
            with running_engine(Path(path), clock=lambda: model.now_ms, segment=400) as (engine, directory):
                engine.commit([opening("run/a/0", 1, "h")])
                run = Run(engine, directory, model)
                run.check()
                for step in life:
                    if isinstance(step, int):
                        run.publish(step)
                    elif step == "retire":
                        run.retire()
                    elif step == "store":
                        run.store()
                    else:
                        run.delete()
                    run.check()


def _lives(steps: list[Step]) -> list[list[Step]]:
    lives: list[list[Step]] = [[]]
    for step in steps:
        if step == "crash":
            lives.append([])
        else:
            lives[-1].append(step)
    return lives


def test_the_log_shrinks(tmp_path: Path) -> None:
    model = Model()
    with running_engine(tmp_path, clock=lambda: model.now_ms, segment=400) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h")])
        run = Run(engine, directory, model)
        for _ in range(30):
            run.publish(3)
            run.retire()
            run.store()
            run.delete()
        assert len(engine.log.segments) <= 1 + AGE_MS + 2
        assert {path.stem for path in directory.log.iterdir()} == {
            path.stem for path in (segment.path for segment in engine.log.segments)
        }


def test_what_comes_while_a_checkpoint_is_written_is_not_deleted_by_it(tmp_path: Path) -> None:
    """Nobody had asked the index of delayed messages about it."""
    model = Model()
    with running_engine(tmp_path, clock=lambda: model.now_ms, segment=400) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h")])
        run = Run(engine, directory, model)
        run.publish(3)
        (retired,) = engine.commit([RetireMessages({}, timedelta(days=7))]).answers
        assert isinstance(retired, Retired)
        assert not retired.holds
        due = {0: Attributes(deliver_at_ms=1_000)}
        runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, [b"later"], attributes=due, queue=0), 0, 1)
        engine.commit([StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), 2, None, runs, 1)])
        model.now_ms += 1
        for _ in range(10):
            run.publish(3)
        run.retire()
        run.store()
        run.sweeping.delete(retired, model.now_ms)
        model.now_ms = 1_000
        engine.commit([DeliverDue()])
        assert b"later" in [
            body
            for key in KEYS
            for body in read_batch(
                engine.log,
                engine.queues.queue(key),
                key.topic_id,
                engine.queues.queue(key).lowest,
                max_messages=1_000,
                max_bytes=1 << 20,
            ).bodies
        ]
