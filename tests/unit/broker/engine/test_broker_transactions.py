"""Transactions: the rules, and the engine's room over real files."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.delivery.reader import read_batch
from broker.delivery.retention.rules import Holder, HolderKind
from broker.engine.commands import CheckTransactions, DeleteTopic, EndTransaction, GiveUpTransaction, StorePublish
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer
from broker.errors import BadName, BadRequest, BrokerError, TooLarge, TooMany, TransactionUnknown, UnknownTopic
from broker.log.disk import Disk
from broker.model import (
    Attributes,
    Check,
    Checked,
    HolderId,
    ProducerId,
    Published,
    QueueKey,
    TopicBatch,
    TopicName,
    TransactionEnded,
    TransactionId,
    TransactionPart,
)
from broker.producers import transactions
from broker.producers.transactions import (
    MOST_BYTES,
    MOST_CHECKS,
    MOST_MESSAGES,
    MOST_PUBLISHES,
    Ended,
    Open,
    Outcome,
    Transactions,
    check_part,
    joined,
    pause_ms,
)
from broker.producers.undecided import TOPIC_PROPERTY, TRANSACTION_PROPERTY
from broker.queues.encoding import encode_batch
from tests.support.broker_engine import TOPIC, bodies_of, opening, running_engine

ONE, TWO = TransactionId("one"), TransactionId("two")
SEGMENT = 1 << 20
BODIES = [b"%d" % number for number in range(8)]
COMMIT, ROLLBACK = Outcome.COMMITTED, Outcome.ROLLED_BACK
HOUR_MS = 3_600_000


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def part(transaction_id: TransactionId = ONE, group: str = "g") -> TransactionPart:
    return TransactionPart(transaction_id, group)


def half(sequence: int, *bodies: bytes, of: TransactionPart | None = None, at_ms: int = 1_000) -> StorePublish:
    """A publish of messages, the first with a property, spread over the two queues of TOPIC from the first on."""
    attributes = {0: Attributes({"color": "red"})} if bodies else {}
    runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, bodies, keys_of(bodies), [b"tag"], attributes), 0, at_ms)
    return StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), sequence, None, runs, at_ms, of or part())


def keys_of(bodies: Sequence[bytes]) -> Sequence[bytes]:
    """Of many messages, so that their queues interleave."""
    return bodies if len(bodies) > 2 else ()


def shown(engine: Engine) -> list[bytes]:
    """Everything that is visible, sorted."""
    return sorted(body for queue in range(2) for body in bodies_of(engine, QueueKey(TOPIC.topic_id, queue)))


def refused(answer: object) -> type:
    assert isinstance(answer, BrokerError), answer
    return type(answer)


def test_checks_come_after_6_12_24_48_seconds_and_then_every_minute() -> None:
    assert [pause_ms(checks) for checks in (0, 1, 2, 3, 4, 5, 14, 10_000)] == [
        6_000, 12_000, 24_000, 48_000, 60_000, 60_000, 60_000, 60_000,
    ]  # fmt: skip


def test_a_transaction_is_bounded_in_bytes_messages_and_publishes() -> None:
    full = Open("g", (1,), MOST_MESSAGES - 1, MOST_BYTES - 1, 0, 0)
    assert joined(full, "g", 2, messages=1, size=1, at_ms=0).positions == (1, 2)
    with pytest.raises(TooLarge):
        joined(full, "g", 2, messages=1, size=2, at_ms=0)
    with pytest.raises(TooMany, match="messages"):
        joined(full, "g", 2, messages=2, size=1, at_ms=0)
    with pytest.raises(TooMany, match="publishes"):
        joined(Open("g", (1,) * MOST_PUBLISHES, 0, 0, 0, 0), "g", 2, messages=0, size=0, at_ms=0)
    with pytest.raises(BadRequest, match="producer group g"):
        joined(full, "other", 2, messages=0, size=0, at_ms=0)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (part(TransactionId("")), BadRequest),
        (part(TransactionId("x" * 65)), TooLarge),
        (part(group=""), BadName),
        (part(group="a b"), BadName),
        (part(group="g" * 117), TooLarge),
    ],
)
def test_what_names_no_transaction_is_refused(bad: TransactionPart, kind: type[BrokerError]) -> None:
    with pytest.raises(kind):
        check_part(bad)
    check_part(part(TransactionId("x" * 64), "g" * 116))


def test_only_so_many_are_open_at_once() -> None:
    table = Transactions(most_open=1)
    table.join(part(ONE), 1, 0, 0, 0)
    table.judge_join(part(ONE), 0, 0, 0)
    with pytest.raises(TooMany, match="open transactions"):
        table.judge_join(part(TWO), 0, 0, 0)
    table.end(ONE, Ended(COMMIT, 5, 0))
    table.judge_join(part(TWO), 0, 0, 0)


def test_the_ended_are_remembered_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Transactions()
    table.end(ONE, Ended(COMMIT, 5, 0))
    table.end(TWO, Ended(COMMIT, 6, HOUR_MS))
    assert table.ended(ONE, COMMIT) == Ended(COMMIT, 5, 0)
    table.end(TransactionId("three"), Ended(COMMIT, 7, HOUR_MS + 1))
    with pytest.raises(TransactionUnknown):
        table.ended(ONE, COMMIT)
    monkeypatch.setattr(transactions, "MOST_REMEMBERED", 1)
    table.end(ONE, Ended(COMMIT, 8, HOUR_MS + 1))
    with pytest.raises(TransactionUnknown):
        table.ended(TWO, COMMIT)
    assert table.ended(ONE, COMMIT) == Ended(COMMIT, 8, HOUR_MS + 1)


def test_a_commit_shows_all_publishes_at_once_and_a_rollback_none(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        first = engine.commit(
            [opening("run/a/0", 1, "h"), half(1, b"a", b"b"), half(2, b"c"), half(3, b"x", of=part(TWO))]
        ).answers[1]
        assert isinstance(first, Published)
        assert not first.ranges
        assert shown(engine) == []
        hold = engine.transacting.hold()
        assert hold is not None
        assert (hold.holder, hold.position > 0) == (Holder(HolderKind.TRANSACTION, "g"), True)
        committed = engine.commit([EndTransaction(ONE, COMMIT)])
        (ended,) = committed.answers
        assert isinstance(ended, TransactionEnded)
        assert [(run.batch, run.queue, run.first_offset, run.count) for run in ended.ranges] == [
            (0, 0, 0, 1), (0, 1, 0, 1), (1, 0, 1, 1),
        ]  # fmt: skip
        assert len(committed.grown) == 2
        assert shown(engine) == [b"a", b"b", b"c"]
        assert engine.commit([EndTransaction(TWO, ROLLBACK)]).answers == [TransactionEnded([])]
        assert shown(engine) == [b"a", b"b", b"c"]
        assert engine.transacting.hold() is None


def test_a_commit_in_the_group_of_its_publishes_finds_them(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        answers = engine.commit([opening("run/a/0", 1, "h"), half(1, b"a"), EndTransaction(ONE, COMMIT)]).answers
        assert isinstance(answers[-1], TransactionEnded)
        assert shown(engine) == [b"a"]


@pytest.mark.parametrize("is_reopened", [True, False])
def test_asked_again_it_answers_the_same_and_another_outcome_is_refused(tmp_path: Path, is_reopened: bool) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        first = engine.commit([opening("run/a/0", 1, "h"), half(1, b"a"), EndTransaction(ONE, COMMIT)]).answers[-1]
        again = [EndTransaction(ONE, COMMIT), EndTransaction(ONE, ROLLBACK), EndTransaction(TWO, COMMIT), half(2, b"b")]
        if not is_reopened:
            answers = engine.commit(again).answers
    if is_reopened:
        with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
            answers = engine.commit(again).answers
    assert answers[0] == first
    assert [refused(answer) for answer in answers[1:]] == [TransactionUnknown] * 3


def test_sequences_count_as_for_any_publish_and_a_refused_one_is_not_counted(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), half(1, b"a"), EndTransaction(ONE, COMMIT)])
        late, duplicate, following = engine.commit([half(2, b"b"), half(1, b"a"), half(2, b"c", of=part(TWO))]).answers
        assert refused(late) is TransactionUnknown
        assert isinstance(duplicate, Published)
        assert (duplicate.duplicate, duplicate.ranges) == (True, [])
        assert isinstance(following, Published)
        engine.commit([EndTransaction(TWO, COMMIT)])
        assert shown(engine) == [b"a", b"c"]


def test_checks_are_counted_and_survive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h"), half(1, b"a")])
        position = engine.transacting.transactions.get(ONE).positions[0]
        clock.now_ms = 6_999
        assert engine.commit([CheckTransactions()]).answers == [Checked([], [])]
        clock.now_ms = 7_000
        assert engine.commit([CheckTransactions()]).answers == [Checked([Check(ONE, "g", 1, position)], [])]
        assert engine.commit([CheckTransactions()]).answers == [Checked([], [])]
        Checkpointer(engine, directory, Disk(), 1 << 30, pytest.fail).close()
        clock.now_ms += 12_000
        assert engine.commit([CheckTransactions()]).answers == [Checked([Check(ONE, "g", 2, position)], [])]
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        assert engine.commit([CheckTransactions()]).answers == [Checked([], [])]
        clock.now_ms += 24_000
        assert engine.commit([CheckTransactions()]).answers == [Checked([Check(ONE, "g", 3, position)], [])]


def give_up_after_all_checks(engine: Engine, clock: Clock) -> list[Check]:
    """What is exhausted when nobody ever answers."""
    for _ in range(MOST_CHECKS):
        clock.now_ms += 60_000
        (checked,) = engine.commit([CheckTransactions()]).answers
        assert isinstance(checked, Checked)
        assert (len(checked.asked), len(checked.exhausted)) == (1, 0)
    clock.now_ms += 60_000
    (checked,) = engine.commit([CheckTransactions()]).answers
    assert isinstance(checked, Checked)
    assert not checked.asked
    return [*checked.exhausted]


def test_after_all_checks_its_messages_are_in_a_visible_place_and_it_is_closed(tmp_path: Path) -> None:
    clock = Clock()
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        place = engine.catalog.topics.get_or_create_own(TopicName("%UNDECIDED%g"))
        engine.commit([opening("run/a/0", 1, "h"), half(1, *BODIES), half(2, b"last")])
        assert [check.transaction_id for check in give_up_after_all_checks(engine, clock)] == [ONE]
        engine.commit([GiveUpTransaction(ONE, place.topic_id)])
        assert refused(engine.commit([EndTransaction(ONE, COMMIT)]).answers[0]) is TransactionUnknown
        assert refused(engine.commit([GiveUpTransaction(ONE, place.topic_id)]).answers[0]) is TransactionUnknown
    with running_engine(tmp_path, clock=clock, segment=SEGMENT) as (engine, _):
        assert shown(engine) == []
        queue = engine.queues.queue(QueueKey(place.topic_id, 0))
        found = read_batch(engine.log, queue, place.topic_id, 0, max_messages=10, max_bytes=10_000)
        assert [*found.bodies] == [*BODIES, b"last"]  # as they were published, whatever queues they were meant for
        assert [*found.tags] == [b"tag"] * 9
        ours = {TOPIC_PROPERTY: TOPIC.name, TRANSACTION_PROPERTY: ONE}
        expected = [{"color": "red", **ours}, *[ours] * 7, {"color": "red", **ours}]
        assert [dict(found.attributes[index].properties) for index in range(9)] == expected
        assert refused(engine.commit([EndTransaction(ONE, COMMIT)]).answers[0]) is TransactionUnknown


def test_messages_of_a_topic_that_is_gone_are_left_out_of_the_commit(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), half(1, b"a"), DeleteTopic(TOPIC.name)])
        first, again = engine.commit([EndTransaction(ONE, COMMIT), EndTransaction(ONE, COMMIT)]).answers
        assert first == again == TransactionEnded([])


def test_a_transaction_of_a_topic_that_is_gone_is_given_up_without_its_name(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        place = engine.catalog.topics.get_or_create_own(TopicName("%UNDECIDED%g"))
        gone = engine.catalog.topics.create(TopicName("gone"), 1)
        runs = encode_batch(0, gone, TopicBatch(gone.name, [b"a"]), 0, 1_000)
        publish = StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), 1, None, runs, 1_000, part())
        engine.commit([opening("run/a/0", 1, "h"), publish, DeleteTopic(gone.name)])
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        engine.commit([GiveUpTransaction(ONE, place.topic_id)])
        queue = engine.queues.queue(QueueKey(place.topic_id, 0))
        found = read_batch(engine.log, queue, place.topic_id, 0, max_messages=10, max_bytes=10_000)
        assert [*found.bodies] == [b"a"]
        assert found.attributes[0].properties == {TOPIC_PROPERTY: "", TRANSACTION_PROPERTY: ONE}


def test_a_clock_that_is_set_back_postpones_no_check() -> None:
    known = Transactions({ONE: Open("g", (0,), 1, 1, 0, 10 * HOUR_MS)})
    assert known.due(10 * HOUR_MS - 1) == []
    assert [transaction_id for transaction_id, _ in known.due(HOUR_MS)] == [ONE]
    known.check(ONE, HOUR_MS)
    assert known.due(HOUR_MS) == []


def test_a_transaction_is_not_given_up_into_a_topic_that_is_gone(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        place = engine.catalog.topics.get_or_create_own(TopicName("%UNDECIDED%g"))
        engine.commit([opening("run/a/0", 1, "h"), half(1, b"a")])
        _, answer = engine.commit([DeleteTopic(place.name), GiveUpTransaction(ONE, place.topic_id)]).answers
        assert refused(answer) is UnknownTopic
        assert engine.transacting.transactions.is_open(ONE)


def test_a_checkpoint_keeps_what_is_open_and_what_ended(tmp_path: Path) -> None:
    with running_engine(tmp_path, segment=SEGMENT) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h"), half(1, b"a"), half(2, b"b", of=part(TWO))])
        engine.commit([EndTransaction(TWO, COMMIT)])
        before = engine.transacting.transactions.snapshot()
        Checkpointer(engine, directory, Disk(), 1 << 30, pytest.fail).close()
    with running_engine(tmp_path, segment=SEGMENT) as (engine, _):
        known, ended = engine.transacting.transactions.snapshot()
        assert [(key, [*value]) for key, value in known.items()] == [
            (key, [value[0], [*value[1]], *value[2:]]) for key, value in before[0].items()
        ]
        assert ended == before[1]
        engine.commit([EndTransaction(ONE, COMMIT)])
        assert shown(engine) == [b"a", b"b"]
