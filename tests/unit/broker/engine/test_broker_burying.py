"""What a member by offset gives up is buried and committed by one frame: wherever a crash falls, exactly once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from broker.engine.commands import BeatGroup, BuryMessages, CommitOffsets, DeleteTopic
from broker.engine.engine import Answer, Engine
from broker.errors import BadRequest, BrokerError, NotOwner
from broker.log.disk import Disk
from broker.model import ERROR_BYTES, Beat, BeatAnswer, Claim, MemberId, OffsetCommit, QueueKey, TopicQueue
from broker.settings import LEAST_SEGMENT_BYTES
from tests.support.broker_engine import FragileDisk, PowerLoss, bodies_of, running_engine
from tests.support.broker_leases import DEAD, GRAVE, GROUP, ORDERS, make_topics, publish

ANN = MemberId("ann")
QUEUE = TopicQueue(ORDERS.name, 0)


@contextmanager
def running(path: Path, disk: Disk | None = None, segment: int = 1 << 25) -> Iterator[Engine]:
    with running_engine(path / "data", disk, lambda: 1_000, segment=segment) as (engine, _):
        make_topics(engine)
        yield engine


def claim(engine: Engine) -> Claim:
    (answer,) = engine.commit([BeatGroup(Beat(GROUP, ANN, frozenset([ORDERS.name]), 10.0), 0.0)]).answers
    assert isinstance(answer, BeatAnswer)
    return answer.owned[0].claim


def bury(
    engine: Engine, claim: Claim, *offsets: int, member: MemberId = ANN, error: str = "no"
) -> Answer | BrokerError:
    command = BuryMessages(GROUP, member, claim, ORDERS.topic_id, offsets, 4, error, GRAVE)
    (answer,) = engine.commit([command]).answers
    return answer


def dead(engine: Engine) -> list[bytes]:
    return bodies_of(engine, QueueKey(DEAD.topic_id, 0))


@pytest.mark.parametrize("written", [0, 10, 100, 200, 300, 10_000])
def test_a_crash_leaves_a_message_where_it_was_or_buries_it_and_asking_again_is_safe(
    tmp_path: Path, written: int
) -> None:
    disk = FragileDisk()
    with running(tmp_path, disk) as engine:
        publish(engine, [b"0", b"1", b"2"])
        own = claim(engine)
        disk.budget = written
        with suppress(PowerLoss):
            bury(engine, own, 1)
    with running(tmp_path) as engine:
        committed = engine.grouping.committed(GROUP, QUEUE)
        assert (dead(engine), committed) in [([], 0), ([b"1"], 2)]
        bury(engine, own, 1)
        assert (dead(engine), engine.grouping.committed(GROUP, QUEUE)) == ([b"1"], 2)


def test_what_does_not_fit_into_one_frame_is_buried_once_too(tmp_path: Path) -> None:
    """A crash between two frames buries the first of them only; asked again, only the rest follows."""
    bodies = [b"%d" % number * (3 << 20) for number in range(4)]
    with running(tmp_path) as engine:
        for body in bodies:
            publish(engine, [body])
        own = claim(engine)
        bury(engine, own, 0, 1)
        bury(engine, own, 3, 2, 1, 0)
        assert dead(engine) == bodies
    with running(tmp_path) as engine:
        assert dead(engine) == bodies
        assert engine.grouping.committed(GROUP, QUEUE) == 4


def test_the_errors_of_many_small_messages_fit_into_the_smallest_segment(tmp_path: Path) -> None:
    """A copy is more than its message: the frame that was too large ended the broker, and again at each start."""
    with running(tmp_path, segment=LEAST_SEGMENT_BYTES) as engine:
        publish(engine, [b"x"] * 5_000)
        answer = bury(engine, claim(engine), *range(5_000), error="e" * ERROR_BYTES)
        assert not isinstance(answer, BrokerError)
        assert len(dead(engine)) == 5_000


def test_what_is_committed_is_done(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0", b"1", b"2"])
        own = claim(engine)
        engine.commit([CommitOffsets(GROUP, ANN, [OffsetCommit(own, 2)])])
        bury(engine, own, 1, 2)
        assert (dead(engine), engine.grouping.committed(GROUP, QUEUE)) == ([b"2"], 3)


def test_nothing_is_buried_in_dead_letters_that_were_deleted_just_now(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0"])
        own = claim(engine)
        engine.commit([DeleteTopic(DEAD.name)])
        assert isinstance(bury(engine, own, 0), BadRequest)
        assert engine.grouping.committed(GROUP, QUEUE) == 0


def test_nothing_is_buried_for_another_or_beyond_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0", b"1"])
        own = claim(engine)
        assert isinstance(bury(engine, own, 0, member=MemberId("bob")), NotOwner)
        assert isinstance(bury(engine, Claim(QUEUE, own.generation + 1), 0), NotOwner)
        for beyond in (2, 1 << 40):
            assert isinstance(bury(engine, own, 0, beyond), BadRequest)
        assert (dead(engine), engine.grouping.committed(GROUP, QUEUE)) == ([], 0)
