"""What of the consumer groups survives a restart, by the log alone and by a checkpoint."""

from pathlib import Path

import pytest

from broker.engine.commands import (
    AlterGroup,
    BeatGroup,
    Command,
    CommitOffsets,
    DeleteGroup,
    DropSilent,
    LeaveGroup,
    ResetOffsets,
)
from broker.engine.engine import Answer, Engine
from broker.engine.opening import Checkpointer
from broker.errors import BrokerError, StaleTerm
from broker.groups.membership import Group
from broker.groups.resetting import Reset
from broker.log.disk import Disk
from broker.model import (
    Beat,
    BeatAnswer,
    Edge,
    Exponential,
    GroupName,
    GroupPolicy,
    MemberId,
    Mode,
    OffsetCommit,
    Opened,
    TopicQueue,
)
from tests.support.broker_engine import TOPIC, opening, publishing, running_engine

G = GroupName("g")
A, B = MemberId("a"), MemberId("b")
FIRST = TopicQueue(TOPIC.name, 0)


def ask(engine: Engine, command: Command) -> Answer:
    (answer,) = engine.commit([command]).answers
    assert not isinstance(answer, BrokerError)
    return answer  # type: ignore[return-value]


def beat(engine: Engine, member: MemberId, now: float = 0.0) -> BeatAnswer:
    answer = ask(engine, BeatGroup(Beat(G, member, frozenset([TOPIC.name]), 3.0), now))
    assert isinstance(answer, BeatAnswer)
    return answer


def fill(engine: Engine) -> None:
    """A group that has read two messages of the first queue."""
    ask(engine, opening("producer/a", 1, "h"))
    ask(engine, publishing("producer/a", 1, "h", 1, *[b"x"] * 8))
    ask(engine, AlterGroup(G, GroupPolicy(4, Exponential(5, 50, 2.0), 3.5, 9)))
    (claim,) = [owned.claim for owned in beat(engine, A).owned if owned.claim.at == FIRST]
    ask(engine, CommitOffsets(G, A, [OffsetCommit(claim, 2)]))


def only(engine: Engine) -> Group:
    (group,) = engine.grouping.groups()
    return group


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_a_group_is_the_same_after_a_restart(tmp_path: Path, has_checkpoint: bool) -> None:
    with running_engine(tmp_path) as (engine, directory):
        fill(engine)
        known = only(engine)
        if has_checkpoint:
            Checkpointer(engine, directory, Disk(), 1, pytest.fail).close()
            directory_log = engine.log.written
    with running_engine(tmp_path) as (engine, _):
        assert only(engine) == known
        assert (known.mode, known.queues[FIRST].offset, known.policy.most_leased) == (Mode.OFFSET, 2, 9)
        assert not has_checkpoint or engine.log.written == directory_log


def test_nobody_gets_anothers_queues_for_one_session_after_a_restart(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        fill(engine)
    with running_engine(tmp_path) as (engine, _):
        assert not beat(engine, B, now=2.9).owned
        owned = beat(engine, B, now=3.0).owned
        assert {commit.claim.at: commit.offset for commit in owned} == {FIRST: 2, TopicQueue(TOPIC.name, 1): 0}
        assert {commit.claim.generation for commit in owned} == {2}


def test_a_beat_alone_writes_nothing(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        beat(engine, A)
        written = engine.log.written
        beat(engine, A, now=1.0)
        assert engine.log.written == written


def test_it_is_known_since_when_a_group_has_no_members(tmp_path: Path) -> None:
    clock = iter([1_000, 2_000, 3_000, 4_000])
    with running_engine(tmp_path, clock=clock.__next__) as (engine, _):
        beat(engine, A)
        ask(engine, DropSilent(2.9))
        assert (only(engine).members.keys(), only(engine).last_member_at_ms) == ({A}, 0)
        ask(engine, DropSilent(3.0))
        assert (only(engine).members, only(engine).last_member_at_ms) == ({}, 3_000)
    with running_engine(tmp_path) as (engine, _):
        assert only(engine).last_member_at_ms == 3_000


def test_what_is_deleted_stays_away(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        fill(engine)
        ask(engine, LeaveGroup(G, A))
        ask(engine, DeleteGroup(G, 0.0))
        assert not engine.grouping.groups()
    with running_engine(tmp_path) as (engine, _):
        assert not engine.grouping.groups()


def test_a_topic_that_went_was_never_read(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        fill(engine)
        engine.grouping.forget(TOPIC, 1)
        engine.commit([])
        assert engine.grouping.committed(G, FIRST) is None
    with running_engine(tmp_path) as (engine, _):
        assert not only(engine).queues


@pytest.mark.parametrize("anew", [DeleteGroup(G, 9.0), ResetOffsets(Reset(G, TOPIC.name, Edge.EARLIEST), 9.0)])
def test_the_producers_of_a_group_that_reads_anew_start_over(tmp_path: Path, anew: Command) -> None:
    own, others = f"group/{G}/{TOPIC.name}/0", (f"group/{G}g/{TOPIC.name}/0", "run/a/0")
    with running_engine(tmp_path) as (engine, _):
        fill(engine)
        for producer in (own, *others):
            ask(engine, opening(producer, 7, "h"))
            ask(engine, publishing(producer, 7, "h", 1, b"x", cursor=b"far"))
        ask(engine, ResetOffsets(Reset(G, TOPIC.name, Edge.EARLIEST, preview=True), 9.0))
        assert ask(engine, opening(own, 7, "h")) == Opened(1, b"far")
        ask(engine, anew)
        (late,) = engine.commit([publishing(own, 7, "h", 2, b"late", cursor=b"farther")]).answers
        assert isinstance(late, StaleTerm)
    with running_engine(tmp_path) as (engine, _):
        assert ask(engine, opening(own, 9, "next")) == Opened(2, b"")
        assert {ask(engine, opening(other, 7, "h")) for other in others} == {Opened(1, b"far")}
