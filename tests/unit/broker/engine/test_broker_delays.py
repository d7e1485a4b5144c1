"""Delayed messages: the pure parts, the index, and the engine's room over real files."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from broker.delivery.delay_index import DelayIndex
from broker.delivery.delays import Stretch, spans, stretches, without
from broker.engine.commands import DeleteTopic, DeliverDue, Recall, StorePublish
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer
from broker.errors import DelayTooLong, HandleUnknown, RecalledBefore
from broker.log.disk import Disk
from broker.log.record import Columns, encode_records
from broker.model import (
    Attributes,
    Delivered,
    HolderId,
    ProducerId,
    Published,
    QueueKey,
    Recalled,
    Topic,
    TopicBatch,
    TopicId,
    TopicName,
)
from broker.queues.encoding import LONGEST_DELAY, encode_batch
from broker.queues.finding import stored_at
from tests.support.broker_engine import bodies_of, opening, running_engine

KEY = QueueKey(TopicId(1), 0)
TOPIC = Topic(TopicName("t"), TopicId(1), 1, 1)
ALL = DeliverDue()
SEGMENT = 1 << 20


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def delayed(sequence: int, *messages: tuple[bytes, int], queue: int | None = None, at_ms: int = 1_000) -> StorePublish:
    """A publish of bodies with their due times; 0 is at once."""
    attributes = {index: Attributes({}, due_ms) for index, (_, due_ms) in enumerate(messages) if due_ms}
    batch = TopicBatch(TOPIC.name, [body for body, _ in messages], attributes=attributes, queue=queue)
    runs = encode_batch(0, TOPIC, batch, 0, at_ms)
    return StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), sequence, None, runs, at_ms)


def publish(engine: Engine, *messages: tuple[bytes, int], sequence: int = 1) -> list[int]:
    """The handles of what is delayed."""
    _, answer = engine.commit([opening("run/a/0", 1, "h"), delayed(sequence, *messages)]).answers
    assert isinstance(answer, Published)
    return [handle for part in answer.ranges for handle in part.handles]


def test_a_stretch_ends_where_the_due_time_changes_and_where_it_is_long_enough() -> None:
    found = [*stretches(KEY, [5, 5, 5, 9, 5], [10, 20, 30, 40, 50], 100, most=2)]
    assert found == [
        Stretch(5, 100, 30, 2, KEY),
        Stretch(5, 130, 30, 1, KEY),
        Stretch(9, 160, 40, 1, KEY),
        Stretch(5, 200, 50, 1, KEY),
    ]


@pytest.mark.parametrize(
    ("at", "before", "left"),
    [(100, 0, [(110, 20, 2)]), (110, 1, [(100, 10, 1), (120, 10, 1)]), (120, 2, [(100, 20, 2)])],
)
def test_a_record_is_taken_out_of_its_stretch(at: int, before: int, left: list[tuple[int, int, int]]) -> None:
    found = without(Stretch(5, 100, 30, 3, KEY), at, 10, before)
    assert found == [Stretch(5, position, size, count, KEY) for position, size, count in left]


def test_one_read_takes_what_lies_together() -> None:
    near, far, first = (Stretch(5, position, 10, 1, KEY) for position in (112, 200, 100))
    assert [*spans([near, far, first], most_gap=2, most_bytes=100)] == [[first, near], [far]]
    assert [*spans([near, far, first], most_gap=100, most_bytes=50)] == [[first, near], [far]]


def test_the_index_gives_what_is_due_by_time_and_position_and_never_what_is_not_written(tmp_path: Path) -> None:
    index = DelayIndex(tmp_path / "delays")
    rows = [Stretch(7, 10, 5, 1, KEY), Stretch(5, 40, 5, 1, KEY), Stretch(5, 20, 5, 2, KEY), Stretch(8, 30, 5, 1, KEY)]
    index.add(rows)
    assert index.due(7, 100, 10, 1_000) == [rows[2], rows[1], rows[0]]
    assert index.due(7, 40, 10, 1_000) == [rows[2], rows[0]]
    assert index.due(9, 100, 3, 1_000) == [rows[2], rows[1]]
    assert index.due(9, 100, 1, 1_000) == [rows[2]]  # a chunk has one at least
    assert index.due(9, 100, 10, 11) == [rows[2], rows[1]]
    assert index.next_due_ms() == 5
    index.close()


def test_the_index_forgets_what_was_not_committed_and_knows_up_to_where_it_is_complete(tmp_path: Path) -> None:
    index = DelayIndex(tmp_path / "delays")
    index.add([Stretch(5, 20, 5, 2, KEY)])
    index.commit(100)
    index.add([Stretch(6, 200, 5, 1, KEY)])
    index.close()
    index = DelayIndex(tmp_path / "delays")
    assert (index.complete, index.pending(KEY.topic_id), index.due(9, 1_000, 9, 99)) == (
        100, 2, [Stretch(5, 20, 5, 2, KEY)],
    )  # fmt: skip
    index.close()


def test_the_lowest_position_follows_what_is_pending(tmp_path: Path) -> None:
    index = DelayIndex(tmp_path / "delays")
    assert index.lowest() is None
    low, high = Stretch(9, 5, 5, 1, KEY), Stretch(5, 100 << 20, 5, 1, KEY)
    index.add([low, high])
    index.commit(1)
    assert index.lowest() == (0, KEY.topic_id)
    index.remove([low])
    index.commit(2)
    position, _ = index.lowest() or (0, 0)
    assert 5 < position <= high.position
    index.close()


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100])
def test_a_damaged_index_begins_empty(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "delays"
    index = DelayIndex(path)
    index.add([Stretch(5, 20, 5, 2, KEY)])
    index.commit(100)
    index.close()
    path.write_bytes(damage)
    index = DelayIndex(path)
    assert (index.complete, index.next_due_ms()) == (0, None)
    index.close()


def test_a_message_is_in_its_queue_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        publish(engine, (b"later", 3_000), (b"now", 0), (b"soon", 2_000), (b"past", 999))
        assert bodies_of(engine, KEY) == [b"now", b"past"]
        assert engine.commit([ALL]).answers == [Delivered(0, 2_000)]
        clock.now_ms = 2_000
        assert engine.commit([ALL]).answers == [Delivered(1, 3_000)]
        assert bodies_of(engine, KEY) == [b"now", b"past", b"soon"]
        clock.now_ms = 9_000
        committed = engine.commit([ALL])
        assert (committed.answers, committed.grown) == ([Delivered(1, None)], [KEY])
        assert bodies_of(engine, KEY) == [b"now", b"past", b"soon", b"later"]
        assert engine.commit([ALL]).answers == [Delivered(0, None)]


def test_a_recalled_message_is_never_delivered_and_the_others_of_its_stretch_are(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        handles = publish(engine, *((b"%d" % n, 2_000) for n in range(5)))
        recalled, again = engine.commit([Recall(handles[2]), Recall(handles[2])]).answers
        assert recalled == Recalled()
        assert isinstance(again, HandleUnknown)
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        clock.now_ms = 2_000
        engine.commit([ALL])
        assert bodies_of(engine, KEY) == [b"0", b"1", b"3", b"4"]
        assert isinstance(engine.commit([Recall(handles[0])]).answers[0], HandleUnknown)


def test_a_handle_that_nobody_was_given_is_refused(tmp_path: Path) -> None:
    with running_engine(tmp_path, clock=Clock(), segment=SEGMENT) as (engine, _):
        (inner,) = (part.records.data for part in delayed(1, (b"x", 2_000)).runs)
        (handle,) = publish(engine, (b"body with" + inner + b"inside", 2_000))
        within = handle + engine.log.read(handle, 1_000).index(inner)
        for wrong in (0, handle + 1, within, engine.log.written - 1, engine.log.written, 1 << 63, (1 << 64) - 1):
            assert isinstance(engine.commit([Recall(wrong)]).answers[0], HandleUnknown), wrong


def test_a_duplicate_gets_the_same_handles(tmp_path: Path) -> None:
    with running_engine(tmp_path, clock=Clock(), segment=SEGMENT) as (engine, _):
        first = publish(engine, (b"a", 2_000), (b"b", 0), (b"c", 2_000))
        assert len(first) == 2
        assert publish(engine, (b"a", 2_000), (b"b", 0), (b"c", 2_000)) == first


def test_a_topic_takes_its_delayed_messages_along_and_what_they_held(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        other = engine.catalog.topics.create(TopicName("other"), 1)
        (handle,) = publish(engine, (b"a", 2_000))
        attributes = {0: Attributes({}, 3_000)}
        runs = encode_batch(0, other, TopicBatch(other.name, [b"stays"], attributes=attributes), 0, 1_000)
        stays = StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), 2, None, runs, 1_000)
        engine.commit([stays, DeleteTopic(TOPIC.name)])
        index = engine.delaying.index
        assert (index.pending(TOPIC.topic_id), index.next_due_ms(), index.lowest()) == (0, 3_000, (0, other.topic_id))
        assert type(engine.commit([Recall(handle)]).answers[0]) is HandleUnknown
        engine.commit([DeleteTopic(other.name)])
        assert (index.next_due_ms(), index.lowest()) == (None, None)
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):  # the log tells of them again
        index = engine.delaying.index
        assert (index.pending(TOPIC.topic_id), index.next_due_ms(), index.lowest()) == (0, None, None)


def test_the_broker_remembers_recalls_also_over_restarts(tmp_path: Path) -> None:
    with running_engine(tmp_path, clock=Clock(), segment=SEGMENT) as (engine, directory):
        handles = publish(engine, (b"a", 2_000), (b"b", 2_000), (b"c", 2_000))
        engine.commit([Recall(handles[0])])
        Checkpointer(engine, directory, Disk(), 1, pytest.fail).close()
    with running_engine(tmp_path, clock=Clock(), segment=SEGMENT) as (engine, _):
        engine.commit([Recall(handles[1])])
        engine.delaying.index.commit(engine.log.written)  # knows already what is replayed
    with running_engine(tmp_path, clock=Clock(), segment=SEGMENT) as (engine, _):
        answers = engine.commit([Recall(handle) for handle in [*handles[:2], handles[0] + 1]]).answers
        assert [type(answer) for answer in answers] == [RecalledBefore, RecalledBefore, HandleUnknown]


def test_messages_are_placed_as_their_topic_is_when_they_are_due(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        keys = [b"%d" % n for n in range(16)]
        attributes = {index: Attributes({}, 2_000) for index in range(16)}
        keyed = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, keys, keys, attributes=attributes), 0, 1_000)
        chosen = encode_batch(
            1, TOPIC, TopicBatch(TOPIC.name, [b"x"], queue=0, attributes={0: attributes[0]}), 0, 1_000
        )
        command = StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), 1, None, [*keyed, *chosen], 1_000)
        engine.commit([opening("run/a/0", 1, "h"), command])
        engine.catalog.topics.replace(replace(TOPIC, write_queues=4, read_queues=4))
        clock.now_ms = 2_000
        assert engine.commit([ALL]).answers == [Delivered(17, None)]
        expected = {queue: [key for key in keys if crc32(key) % 4 == queue] for queue in range(4)}
        expected[0].append(b"x")
        assert {queue: bodies_of(engine, QueueKey(TOPIC.topic_id, queue)) for queue in range(4)} == expected


def test_more_than_seven_days_ahead_is_refused() -> None:
    latest_ms = 1_000 + LONGEST_DELAY.days * 86_400_000
    assert delayed(1, (b"a", latest_ms)).runs[0].dues == [latest_ms]
    with pytest.raises(DelayTooLong):
        delayed(1, (b"a", latest_ms + 1))


def test_damaged_records_are_left_out_and_delivery_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        handles = publish(engine, (b"a", 2_000), (b"b", 3_000))
        path = engine.log.path_of(handles[0])
        with path.open("r+b") as file:
            file.seek(handles[0] + 4)  # of the record's size
            file.write(b"\xff")
        clock.now_ms = 3_000
        assert engine.commit([ALL]).answers == [Delivered(2, None)]
        assert bodies_of(engine, KEY) == [b"b"]


def lose(index: Path) -> None:
    for file in index.parent.glob(f"{index.name}*"):
        file.unlink()


def damage(index: Path) -> None:
    lose(index)
    index.write_bytes(b"garbage" * 1_000)


def keep(_index: Path) -> None:
    pass


@pytest.mark.parametrize("harm", [lose, damage, keep])
@pytest.mark.parametrize("is_checkpointed", [True, False])
def test_the_index_is_made_again_from_the_log(
    tmp_path: Path, harm: Callable[[Path], None], is_checkpointed: bool
) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, directory):
        handles = publish(engine, (b"a", 2_000), (b"b", 5_000), (b"c", 5_000), (b"d", 6_000))
        clock.now_ms = 2_000
        engine.commit([ALL, Recall(handles[1])])
        if is_checkpointed:
            Checkpointer(engine, directory, Disk(), 1 << 30, pytest.fail).close()
    harm(directory.delays)
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        assert engine.delaying.index.pending(KEY.topic_id) == 2
        clock.now_ms = 6_000
        assert engine.commit([ALL]).answers == [Delivered(2, None)]
        assert bodies_of(engine, KEY) == [b"a", b"c", b"d"]


def test_an_index_that_saw_more_than_a_power_loss_left_is_made_again(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        publish(engine, (b"kept", 2_000))
        durable = engine.log.written
        publish(engine, (b"torn", 2_000), sequence=2)
    with max((tmp_path / "log").glob("*.log")).open("r+b") as file:
        file.truncate(durable)
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        clock.now_ms = 2_000
        assert engine.commit([ALL]).answers == [Delivered(1, None)]
        assert bodies_of(engine, KEY) == [b"kept"]


def test_what_a_killed_engine_had_indexed_is_not_taken_again(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        handles = publish(engine, (b"a", 2_000), (b"b", 3_000), (b"c", 3_000))
        clock.now_ms = 2_000
        engine.commit([ALL, Recall(handles[1])])
        engine.delaying.snapshot()
        publish(engine, (b"d", 3_000), sequence=2)
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        clock.now_ms = 3_000
        assert engine.commit([ALL]).answers == [Delivered(2, None)]
        assert bodies_of(engine, KEY) == [b"a", b"c", b"d"]


def test_a_delivered_message_counts_as_stored_when_it_was_due(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        publish(engine, (b"now", 0), (b"later", 2_000))
        clock.now_ms = 2_000
        engine.commit([ALL])
        assert [stored_at(engine.log, engine.queues.queue(KEY), offset) for offset in range(3)] == [1_000, 2_000, 0]


@pytest.mark.parametrize("attributes", [b"\x00", b"\x00" * 9, struct.pack("<BqH", 0, 1 << 62, 1), b"\xff" * 40])
def test_a_handle_that_points_into_a_body_is_unknown_whatever_is_written_there(
    tmp_path: Path, attributes: bytes
) -> None:
    forged = encode_records(Columns([b"x"], attributes={0: attributes}), 1_000).data
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), delayed(1, (forged, 0))])
        handle = engine.log.read(0, SEGMENT).index(forged)
        assert [type(answer) for answer in engine.commit([Recall(handle)]).answers] == [HandleUnknown]
