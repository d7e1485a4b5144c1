"""The engine: groups, refusals, expiry, recovery, damage."""

from pathlib import Path
from threading import Event

import pytest

from broker.delivery.reader import read_batch
from broker.engine.commands import ForgetProducer, ForgetSilent, GetProducer
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer
from broker.errors import LogDamaged, ProducerUnknown, SequenceGap, StaleTerm, TooLarge
from broker.log.disk import Disk
from broker.log.flush import GroupCommit
from broker.model import Forgotten, Opened, ProducerId, Published, QueueKey
from broker.producers.rules import Producer
from tests.support.broker_engine import (
    TOPIC,
    FragileDisk,
    PowerLoss,
    clock_from,
    opening,
    publishing,
    running_engine,
)

FIRST_QUEUE = QueueKey(TOPIC.topic_id, 0)
DAY_MS = 24 * 3_600 * 1_000


def newest_segment(data: Path) -> Path:
    return max((data / "log").glob("*.log"))


def publish_some(engine: Engine, count: int) -> None:
    engine.commit([opening("run/a/0", 1, "h")])
    for sequence in range(1, count + 1):
        engine.commit([publishing("run/a/0", 1, "h", sequence, b"body", cursor=b"%d" % sequence)])


class CountingDisk(Disk):
    def __init__(self) -> None:
        self.writes = self.syncs = 0

    def write(self, fd: int, buffers: object, at: int) -> None:
        self.writes += 1
        super().write(fd, buffers, at)  # type: ignore[arg-type]

    def sync(self, fd: int) -> None:
        self.syncs += 1
        super().sync(fd)


def test_a_group_shares_one_write_and_one_sync(tmp_path: Path) -> None:
    disk = CountingDisk()
    with running_engine(tmp_path, disk) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h")])
        disk.writes = disk.syncs = 0
        engine.commit([publishing("run/a/0", 1, "h", 1, cursor=b"x"), publishing("run/a/0", 1, "h", 2, cursor=b"y")])
        assert (disk.writes, disk.syncs) == (1, 1)


def test_a_duplicate_in_the_same_group_is_answered_with_the_first_ones_ranges(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        again = publishing("run/a/0", 1, "h", 1, b"a", b"b", b"c")
        _, first, second = engine.commit([opening("run/a/0", 1, "h"), again, again]).answers
        assert isinstance(first, Published)
        assert isinstance(second, Published)
        assert (first.duplicate, second.duplicate) == (False, True)
        assert [*second.ranges] == [*first.ranges]


def test_the_ranges_of_an_old_duplicate_are_unknown(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        publish_some(engine, 65)
        old, remembered = engine.commit([publishing("run/a/0", 1, "h", n, b"body") for n in (1, 2)]).answers
        assert isinstance(old, Published)
        assert isinstance(remembered, Published)
        assert old.duplicate
        assert not old.ranges
        assert remembered.ranges


def test_each_rule_of_a_producer_refuses_with_its_own_error(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        answers = engine.commit(
            [
                publishing("run/a/0", 1, "h", 1, b"never opened"),
                opening("run/a/0", 2, "h"),
                opening("run/a/0", 2, "h"),
                opening("run/a/0", 2, "other"),
                opening("run/a/0", 1, "h"),
                publishing("run/a/0", 1, "h", 1, b"lower term"),
                publishing("run/a/0", 2, "other", 1, b"other holder"),
                publishing("run/a/0", 3, "h", 1, b"higher term"),
                publishing("run/a/0", 2, "h", 2, b"gap"),
            ]
        ).answers
        kinds = [ProducerUnknown, Opened, Opened, StaleTerm, StaleTerm, StaleTerm, StaleTerm, ProducerUnknown]
        assert [type(answer) for answer in answers] == [*kinds, SequenceGap]


def test_a_publish_that_fits_no_segment_is_refused_and_the_next_one_counts(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        _, refused, stored = engine.commit(
            [
                opening("run/a/0", 1, "h"),
                publishing("run/a/0", 1, "h", 1, b"x" * 600),
                publishing("run/a/0", 1, "h", 1, b"x"),
            ]
        ).answers
        assert isinstance(refused, TooLarge)
        assert refused.fields["limit"] == 512
        assert isinstance(stored, Published)
        assert stored.ranges[0].first_offset == 0


def test_silent_producers_are_forgotten_and_only_plain_ones_may_begin_anew(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), opening("producer/x", 1, "h")])
    with running_engine(tmp_path, clock=clock_from(DAY_MS)) as (engine, _):
        assert engine.commit([ForgetSilent()]).answers == [Forgotten(1)]
        assert engine.publishing.producers.get(ProducerId("producer/x")) is None
    with running_engine(tmp_path, clock=clock_from(31 * DAY_MS)) as (engine, _):
        assert engine.commit([ForgetSilent()]).answers == [Forgotten(1)]
    with running_engine(tmp_path) as (engine, _):
        again = [opening("run/a/0", 2, "h"), opening("producer/x", 2, "h"), opening("producer/x", 1, "h")]
        run, plain_taken_over, plain_begun_anew = engine.commit(again).answers
        assert isinstance(run, ProducerUnknown)
        assert isinstance(plain_taken_over, ProducerUnknown)
        assert isinstance(plain_begun_anew, Opened)


def test_a_groups_producer_goes_on_after_any_silence(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        name = "group/g/t/0"
        engine.commit([opening(name, 1, "h"), publishing(name, 1, "h", 1, b"a", cursor=b"7")])
    with running_engine(tmp_path, clock=clock_from(1_000 * DAY_MS)) as (engine, _):
        forgotten, taken = engine.commit([ForgetSilent(), opening(name, 2, "h")]).answers
        assert (forgotten, taken) == (Forgotten(0), Opened(1, b"7"))


def test_what_is_told_about_a_producer_is_durable(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        commands = [opening("run/a/0", 1, "h"), GetProducer(ProducerId("run/a/0")), GetProducer(ProducerId("run/b/0"))]
        _, known, unknown = engine.commit(commands).answers
        assert isinstance(known, Producer)
        assert (known.term, known.holder_id, known.last_sequence) == (1, "h", 0)
        assert isinstance(unknown, ProducerUnknown)


def test_forgetting_a_run_refuses_shards_that_never_were_opened(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), opening("run/a/1", 1, "h"), opening("run/ab/0", 1, "h")])
        assert engine.commit([ForgetProducer("run/a/")]).answers == [Forgotten(2)]
        late, other = engine.commit([opening("run/a/7", 1, "h"), opening("run/ab/1", 1, "h")]).answers
        assert isinstance(late, ProducerUnknown)
        assert isinstance(other, Opened)


@pytest.mark.parametrize("damage", ["queues", "checkpoint", "nothing"])
def test_what_is_derived_is_rebuilt_from_the_log(tmp_path: Path, damage: str) -> None:
    with running_engine(tmp_path) as (engine, directory):
        publish_some(engine, 10)
        Checkpointer(engine, directory, Disk(), 1, die=pytest.fail).close()
        held, states = engine.queues.held(), engine.publishing.producers.snapshot()
    if damage == "queues":
        for path in (tmp_path / "queues").glob("*/*/*"):
            path.unlink()
    elif damage == "checkpoint":
        (tmp_path / "checkpoint.json").unlink()
    with running_engine(tmp_path) as (engine, _):
        assert (engine.queues.held(), engine.publishing.producers.snapshot()) == (held, states)


def test_lost_queues_are_rebuilt_although_what_made_the_producers_is_gone(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, directory):
        engine.commit([opening("run/gone/0", 1, "h"), ForgetProducer("run/gone/")])
        publish_some(engine, 20)
        engine.queues.queue(FIRST_QUEUE).drop_before(2)
        Checkpointer(engine, directory, Disk(), 1, die=pytest.fail).close()
        engine.commit([publishing("run/a/0", 1, "h", 21, b"behind the checkpoint")])
        states = engine.publishing.producers.snapshot()
        (end,) = (held.end_offset for held in engine.queues.held().values())
        kept = engine.log.segments[2].start
    for segment in sorted((tmp_path / "log").glob("*.log"))[:2]:
        segment.unlink()
    for path in (tmp_path / "queues").glob("*/*/*"):
        path.unlink()
    with running_engine(tmp_path) as (engine, _):
        queue = engine.queues.queue(FIRST_QUEUE)
        assert (engine.log.start, engine.publishing.producers.snapshot()) == (kept, states)
        assert 2 < queue.lowest < queue.end == end
        fetched = read_batch(engine.log, queue, FIRST_QUEUE.topic_id, queue.lowest, max_messages=99, max_bytes=9_999)
        assert [*fetched.bodies] == [b"body"] * (end - queue.lowest - 1) + [b"behind the checkpoint"]


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        publish_some(engine, 20)
    sorted((tmp_path / "log").glob("*.log"))[1].unlink()
    with pytest.raises(LogDamaged), running_engine(tmp_path):
        pass


def test_a_log_shorter_than_its_checkpoint_is_damage(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, directory):
        publish_some(engine, 3)
        Checkpointer(engine, directory, Disk(), 1, die=pytest.fail).close()
    newest = newest_segment(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(LogDamaged, match="had been durable"), running_engine(tmp_path):
        pass


def test_a_wrong_byte_in_what_was_acknowledged_is_damage_and_not_a_torn_tail(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        publish_some(engine, 2)
    newest = newest_segment(tmp_path)
    data = bytearray(newest.read_bytes())
    data[60] ^= 1
    newest.write_bytes(bytes(data))
    with pytest.raises(LogDamaged, match="acknowledged"), running_engine(tmp_path):
        pass
    assert newest.read_bytes() == bytes(data)


def test_a_write_that_fails_ends_the_writer_and_answers_nothing(tmp_path: Path) -> None:
    disk, died = FragileDisk(), Event()
    errors: list[BaseException] = []
    answers: list[object] = []

    def die(error: BaseException) -> None:
        errors.append(error)
        died.set()

    with running_engine(tmp_path, disk) as (engine, _):
        writer = GroupCommit[str](
            lambda names: answers.extend(engine.commit([opening(n, 1, "h") for n in names]).answers), die
        )
        disk.budget = 10
        writer.submit("run/a/0")
        assert died.wait(5)
        writer.submit("run/b/0")
        writer.stop()
        assert isinstance(errors[0], PowerLoss)
        assert (len(errors), answers) == (1, [])


def test_a_checkpoint_is_taken_when_the_log_has_grown_enough(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, directory):
        checkpointer = Checkpointer(engine, directory, Disk(), 300, die=pytest.fail)
        publish_some(engine, 1)
        checkpointer.consider()
        assert not directory.checkpoint.exists()
        publish_some(engine, 5)
        checkpointer.consider()
        checkpointer.close()
        assert directory.checkpoint.exists()
