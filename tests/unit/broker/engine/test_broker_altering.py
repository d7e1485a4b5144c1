"""Topics that change while publishes are on their way to the writer."""

from pathlib import Path

import pytest

from broker.engine.commands import AlterTopic, BeatGroup, DeleteTopic, StorePublish
from broker.engine.engine import Engine
from broker.errors import UnknownTopic
from broker.log.commit_log import Durability
from broker.log.disk import Disk
from broker.model import (
    Beat,
    Gate,
    GroupName,
    HolderId,
    MemberId,
    ProducerId,
    Published,
    QueueKey,
    Topic,
    TopicBatch,
    TopicName,
)
from broker.queues.altered.alteration import Alteration
from broker.queues.encoding import encode_batch
from broker.queues.placement import place
from broker.queues.topics import Topics
from tests.support.broker_engine import TOPIC, FragileDisk, PowerLoss, bodies_of, opening, publishing, running_engine

SEGMENT = 1 << 20
KEYS = [b"%d" % number for number in range(20)]


def keyed(sequence: int, topic: Topic = TOPIC) -> StorePublish:
    """A publish of one message for each key, its body the key, placed over the queues that the topic has here."""
    runs = encode_batch(0, topic, TopicBatch(topic.name, KEYS, KEYS), 0, 5)
    return StorePublish(ProducerId("p"), 1, HolderId("h"), sequence, None, runs, 5)


def bodies_in(engine: Engine, topic: Topic, queues: int) -> list[list[bytes]]:
    return [bodies_of(engine, QueueKey(topic.topic_id, queue)) for queue in range(queues)]


def placed_over(queues: int) -> list[list[bytes]]:
    """The keys by queue."""
    runs = {run.queue: run.indexes for run in place(len(KEYS), KEYS, queues, 0)}
    return [[KEYS[index] for index in runs.get(queue, ())] for queue in range(queues)]


def alter(write_queues: int) -> AlterTopic:
    return AlterTopic(TOPIC.name, Alteration(write_queues=write_queues))


def test_a_publish_that_was_placed_before_goes_where_its_keys_belong_now(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        late = keyed(1)
        answers = engine.commit([opening("p", 1, "h"), alter(4), late]).answers
        assert isinstance(published := answers[2], Published)
        expected = placed_over(4)
        assert bodies_in(engine, TOPIC, 4) == expected
        assert [expected[run.queue] for run in published.ranges] == [
            [KEYS[index] for index in run.indexes] for run in published.ranges
        ]
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):  # read from the log again
        assert bodies_in(engine, TOPIC, 4) == expected


def test_what_is_before_and_behind_an_alteration_is_told_apart_within_one_group_of_commands(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, directory):
        engine.commit([opening("p", 1, "h"), keyed(1), alter(4), keyed(2)])
        before, after = placed_over(2), placed_over(4)
        assert engine.catalog.topics.get(TOPIC.name) == Topics(directory.topics, Disk(), pytest.fail).get(TOPIC.name)
        altered = engine.catalog.topics.get(TOPIC.name)
        assert altered is not None
        assert altered.gates == (Gate(2, 0, 0, len(before[0])), Gate(3, 0, 1, len(before[1])))
        assert bodies_in(engine, TOPIC, 4) == [[*before[0], *after[0]], [*before[1], *after[1]], after[2], after[3]]


def test_gates_never_refer_to_what_a_power_loss_took(tmp_path: Path) -> None:
    disk = FragileDisk()
    with running_engine(tmp_path, disk, segment=SEGMENT) as (engine, _):
        engine.commit([opening("p", 1, "h"), publishing("p", 1, "h", 1, b"kept", b"kept")])
        flush = engine.log.flush

        def lose_power() -> None:
            disk.budget = 0  # the topic is altered, the publish before it not stored yet
            flush()

        engine.log.flush = lose_power  # type: ignore[method-assign]
        with pytest.raises(PowerLoss):
            engine.commit([publishing("p", 1, "h", 2, b"lost", b"lost"), alter(4)])
    with running_engine(tmp_path, segment=SEGMENT) as (engine, directory):
        for topics in (engine.catalog.topics, Topics(directory.topics, Disk(), pytest.fail)):
            altered = topics.get(TOPIC.name)
            assert altered is not None
            assert altered.gates == (Gate(2, 0, 0, 1), Gate(3, 0, 1, 1))


def test_a_publish_to_a_topic_that_was_deleted_meanwhile_is_refused_whole(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        other = engine.catalog.topics.create(TopicName("other"), 1)
        runs = [*keyed(1).runs, *encode_batch(1, other, TopicBatch(other.name, [b"x"]), 0, 5)]
        both = StorePublish(ProducerId("p"), 1, HolderId("h"), 1, None, runs, 5)
        refused = engine.commit([opening("p", 1, "h"), DeleteTopic(TOPIC.name), both]).answers[2]
        assert isinstance(refused, UnknownTopic)
        assert refused.fields == {"topic": TOPIC.name}
        assert bodies_in(engine, other, 1) == [[]]
        assert isinstance(engine.commit([keyed(1, other)]).answers[0], Published)


def test_what_was_stored_just_before_a_deletion_goes_with_the_topic(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, directory):
        answers = engine.commit([opening("p", 1, "h"), keyed(1), DeleteTopic(TOPIC.name)]).answers
        assert isinstance(answers[1], Published)
        assert not (directory.queues / str(TOPIC.topic_id)).exists()
    topics = Topics(directory.topics, Disk(), pytest.fail)
    again = topics.create(TOPIC.name, 2)
    assert again.topic_id == TOPIC.topic_id + 1


def test_what_groups_know_of_a_deleted_topic_goes_durably_before_it_whatever_the_durability(tmp_path: Path) -> None:
    """A power loss that took only that would leave a group far behind the end of a topic that is made anew."""
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        engine.log.durability = Durability.OS
        engine.commit([BeatGroup(Beat(GroupName("g"), MemberId("ann"), frozenset([TOPIC.name]), 10.0), 0.0)])
        engine.commit([DeleteTopic(TOPIC.name)])
        assert engine.log.durable == engine.log.written
