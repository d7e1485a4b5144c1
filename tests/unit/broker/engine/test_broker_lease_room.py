"""The room of leases over a real log: what a crash leaves, dead letters that go, resets, forgotten groups."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from broker.delivery.leases.settling import Action, Settlement
from broker.engine.commands import Command, DeleteTopic, JoinByLease, LeaveGroup
from broker.engine.engine import Engine
from broker.engine.leasing.commands import (
    BurySpent,
    DropLeases,
    DropTopicLeases,
    GetLeases,
    Leased,
    LeaseMessages,
    LeaseReport,
    LeasesSettled,
    LeasingCommand,
    Moved,
    PurgeDeadLetters,
    RaiseDeadLetters,
    ResetLeases,
    SettleLeases,
    Standing,
)
from broker.engine.opening import Checkpointer
from broker.errors import BadRequest, UnknownTopic
from broker.log.disk import Disk
from broker.model import Beat, GroupName, MemberId, QueueKey, TopicBatch
from broker.queues.encoding import encode_batch
from tests.support.broker_engine import TOPIC, FragileDisk, PowerLoss, bodies_of, opening, publishing, running_engine
from tests.support.broker_leases import (
    DEAD,
    GRAVE,
    GROUP,
    LEASE_MS,
    ORDERS,
    POLICY,
    joining,
    lease,
    leasing,
    make_topics,
    publish,
    settle,
)

ORDERS_QUEUE, DEAD_QUEUE = QueueKey(ORDERS.topic_id, 0), QueueKey(DEAD.topic_id, 0)


@contextmanager
def running(path: Path, disk: Disk | None = None) -> Iterator[Engine]:
    with running_engine(path / "data", disk, lambda: 1_000, segment=1 << 20) as (engine, _):
        make_topics(engine)
        yield engine


def ask(engine: Engine, command: Command) -> object:
    (answer,) = engine.commit([command]).answers
    return answer


def standing(engine: Engine) -> Standing | None:
    report = ask(engine, GetLeases(GROUP))
    assert isinstance(report, LeaseReport)
    return report.queues.get(ORDERS_QUEUE)


def with_dead(engine: Engine, count: int) -> None:
    """So many dead letters."""
    publish(engine, [b"%d" % number for number in range(count)])
    settle(engine, "ann", Action.GIVE_UP, *lease(engine, "ann", count))


def raising(*offsets: int) -> RaiseDeadLetters:
    batch = TopicBatch(ORDERS.name, [b"again %d" % offset for offset in offsets])
    return RaiseDeadLetters(DEAD.topic_id, offsets, encode_batch(0, ORDERS, batch, 0, 5))


def left(engine: Engine) -> list[int]:
    gone = engine.leasing.gone(DEAD.topic_id)
    return [offset for offset in range(engine.queues.queue(DEAD_QUEUE).end) if offset not in gone]


@pytest.mark.parametrize("written", [0, 10, 60, 10_000])
def test_a_crash_leaves_a_dead_letter_here_or_there_but_never_in_both(tmp_path: Path, written: int) -> None:
    disk = FragileDisk()
    with running(tmp_path, disk) as engine:
        with_dead(engine, 3)
        disk.budget = written
        with suppress(PowerLoss):
            ask(engine, raising(0, 2))
    with running(tmp_path) as engine:
        again = bodies_of(engine, ORDERS_QUEUE)[3:]
        assert (again, left(engine)) in [([], [0, 1, 2]), ([b"again 0", b"again 2"], [1])]


def test_dead_letters_go_once(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        with_dead(engine, 4)
        ask(engine, raising(1))
        for command in (raising(1), raising(4), raising(2, 2), PurgeDeadLetters(DEAD.topic_id, [1])):
            assert isinstance(ask(engine, command), BadRequest)
        ask(engine, PurgeDeadLetters(DEAD.topic_id, [3]))
        assert left(engine) == [0, 2]
        ask(engine, PurgeDeadLetters(DEAD.topic_id, []))
        assert left(engine) == []
    with running(tmp_path) as engine:
        assert left(engine) == []
        assert len(bodies_of(engine, ORDERS_QUEUE)) == 5


def test_nothing_is_given_up_into_dead_letters_that_were_deleted_just_now(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0", b"1"])
        first, second = lease(engine, "ann", 2)
        ask(engine, DeleteTopic(DEAD.name))
        settlement = Settlement(0, [first[0]], [first[1]], Action.GIVE_UP)
        said = SettleLeases(GROUP, MemberId("ann"), ORDERS.name, ORDERS.topic_id, [settlement], POLICY, GRAVE, 0.0)
        assert isinstance(ask(engine, said), BadRequest)
        spent = replace(POLICY, attempts=1)
        settle(engine, "ann", Action.RETRY, first, second, after_ms=0)
        assert ask(engine, BurySpent(GROUP, ORDERS.name, ORDERS.topic_id, spent, GRAVE)) == Moved(0)
        answer = ask(engine, leasing(engine, "ann", 2, policy=spent))
        assert isinstance(answer, Leased)
        assert answer.lacks_grave
        assert standing(engine) == Standing(0, 2, 0, 2)


def test_words_about_queues_that_there_are_not_make_none(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        lease(engine, "ann", 1)
        known = len(engine.queues._queues)
        words = [Settlement(queue, [0], [1], Action.ACKNOWLEDGE) for queue in range(100, 200)]
        answer = ask(
            engine, SettleLeases(GROUP, MemberId("ann"), ORDERS.name, ORDERS.topic_id, words, POLICY, GRAVE, 0.0)
        )
        assert isinstance(answer, LeasesSettled)
        assert (len(answer.refused), len(engine.queues._queues)) == (100, known)


def test_groups_that_lease_in_turn_get_messages_of_all_queues(tmp_path: Path) -> None:
    groups, topic, ann = [GroupName("a"), GroupName("b")], TOPIC, MemberId("ann")
    members = [JoinByLease(Beat(group, ann, frozenset([topic.name]), 60.0), 0.0) for group in groups]
    with running(tmp_path) as engine:
        engine.commit([*members, opening("p", 1, "h"), publishing("p", 1, "h", 1, *[b"x"] * 20)])
        ends = [engine.queues.queue(QueueKey(topic.topic_id, queue)).end for queue in range(2)]
        asking = [
            LeaseMessages(group, ann, topic, 1, LEASE_MS, frozenset(), [0, 0], ends, POLICY, GRAVE) for group in groups
        ]
        answers = engine.commit(asking * 4).answers
    queues = [{each.queue for answer in answers[at::2] for each in answer.entries} for at in range(2)]  # type: ignore[union-attr]
    assert queues == [{0, 1}, {0, 1}]


def test_dead_letters_stay_when_the_topic_to_which_they_are_sent_again_was_deleted_just_now(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        with_dead(engine, 2)
        ask(engine, DeleteTopic(ORDERS.name))
        assert isinstance(ask(engine, raising(0, 1)), UnknownTopic)
        assert left(engine) == [0, 1]


def test_dead_letters_that_are_gone_are_not_handed_out_either(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        with_dead(engine, 3)
        ask(engine, PurgeDeadLetters(DEAD.topic_id, [0, 2]))
        asking = replace(leasing(engine, "ann", 3), group=GroupName("others"), topic=DEAD, ends=[3])
        ask(engine, joining("ann", asking.group))
        leased = ask(engine, asking)
        assert isinstance(leased, Leased)
        assert [each.entry.offset for each in leased.entries] == [1]


def test_a_checkpoint_keeps_leases_and_what_is_gone(tmp_path: Path) -> None:
    with running_engine(tmp_path / "data", clock=lambda: 1_000, segment=1 << 20) as (engine, directory):
        make_topics(engine)
        with_dead(engine, 3)
        ask(engine, raising(0))
        held = lease(engine, "ann", 1)
        Checkpointer(engine, directory, Disk(), 1, die=pytest.fail).close()
    with running(tmp_path) as engine:
        assert left(engine) == [1, 2]
        assert standing(engine) == Standing(floor=3, next=4, leased=1, waiting=0, until_ms=1_000 + LEASE_MS)
        assert not settle(engine, "ann", Action.ACKNOWLEDGE, *held).refused


def test_a_reset_voids_all_leases(tmp_path: Path) -> None:
    for restarted in (False, True):
        with running(tmp_path / str(restarted)) as engine:
            publish(engine, [b"0", b"1", b"2"])
            held = lease(engine, "ann", 3)
            ask(engine, ResetLeases(GROUP, ORDERS.topic_id, {0: 1}))
        with running(tmp_path / str(restarted)) as engine:
            assert standing(engine) == Standing(floor=1, next=1, leased=0, waiting=0)
            assert len(settle(engine, "ann", Action.ACKNOWLEDGE, *held).refused) == 3
            assert lease(engine, "bob", 3) == [(1, 1), (2, 1)]


@pytest.mark.parametrize("command", [DropLeases(GROUP), DropTopicLeases(ORDERS.topic_id)])
def test_what_is_forgotten_stays_so(tmp_path: Path, command: LeasingCommand) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0"])
        lease(engine, "ann", 1)
        ask(engine, command)
        assert standing(engine) is None
    with running(tmp_path) as engine:
        assert standing(engine) is None
        assert lease(engine, "ann", 1) == [(0, 1)]


def test_where_a_group_begins_is_written_down_before_anything_comes(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        lease(engine, "ann", 1)
        publish(engine, [b"0"])
    with running(tmp_path) as engine:
        assert standing(engine) == Standing(floor=0, next=0, leased=0, waiting=0)
        assert lease(engine, "ann", 1) == [(0, 1)]


def test_a_damaged_message_is_given_up_without_its_body(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"body"])
        held = lease(engine, "ann", 1)
        (segment,) = (tmp_path / "data" / "log").glob("*.log")
        segment.write_bytes(segment.read_bytes().replace(b"body", b"bodY"))
        settle(engine, "ann", Action.GIVE_UP, *held)
        assert bodies_of(engine, DEAD_QUEUE) == [b""]


def test_what_a_member_has_is_for_others_when_it_leaves(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0", b"1", b"2"])
        held = lease(engine, "ann", 2)
        lease(engine, "bob", 1)
        ask(engine, LeaveGroup(GROUP, MemberId("ann")))
        assert standing(engine) == Standing(floor=0, next=3, leased=1, waiting=2, until_ms=1_000 + LEASE_MS)
    with running(tmp_path) as engine:
        assert len(settle(engine, "ann", Action.ACKNOWLEDGE, *held).refused) == 2
        assert lease(engine, "cid", 3) == [(0, 2), (1, 2)]
        settle(engine, "cid", Action.RETRY, (0, 2), (1, 2), after_ms=0)
        assert lease(engine, "cid", 3) == [(0, 3), (1, 3)]  # the attempts that were given back do not count
        settle(engine, "cid", Action.RETRY, (0, 3), (1, 3), after_ms=0)
        assert lease(engine, "cid", 3) == [(0, 4), (1, 4)]
        settle(engine, "cid", Action.RETRY, (0, 4), (1, 4), after_ms=0)
        assert left(engine) == [0, 1]


def test_who_has_left_meanwhile_gets_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0"])
        ask(engine, joining("ann"))
        _, leased = engine.commit([LeaveGroup(GROUP, MemberId("ann")), leasing(engine, "ann", 1)]).answers
        assert isinstance(leased, Leased)
        assert (leased.entries, leased.is_out) == ((), True)


def test_a_topic_that_is_deleted_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0"])
        ask(engine, joining("ann"))
        _, leased = engine.commit([DeleteTopic(ORDERS.name), leasing(engine, "ann", 1)]).answers
        assert isinstance(leased, UnknownTopic)
        assert standing(engine) is None


def test_a_message_that_is_not_stored_any_more_is_done_when_it_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        publish(engine, [b"0", b"1"])
        held = lease(engine, "ann", 2)
        engine.queues.queue(ORDERS_QUEUE).drop_before(1)
        assert not settle(engine, "ann", Action.GIVE_UP, *held).refused
        assert bodies_of(engine, DEAD_QUEUE) == [b"1"]
        assert standing(engine) == Standing(floor=2, next=2, leased=0, waiting=0)
