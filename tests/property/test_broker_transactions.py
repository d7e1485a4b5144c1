"""Transactions against plain lists: publish, commit, roll back, check, give up, crash, checkpoint, reopen."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.engine.commands import CheckTransactions, EndTransaction, GiveUpTransaction, StorePublish
from broker.engine.opening import Checkpointer
from broker.errors import TransactionUnknown
from broker.log.disk import Disk
from broker.model import (
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
from broker.producers.transactions import MOST_CHECKS, Outcome, pause_ms
from broker.queues.encoding import encode_batch
from tests.support.broker_engine import TOPIC, bodies_of, opening, running_engine

SEGMENT = 4_096
HOUR_MS = 3_600_000
IDS = st.sampled_from([TransactionId(name) for name in ("one", "two", "three", "four")])
OUTCOMES = st.sampled_from([Outcome.COMMITTED, Outcome.ROLLED_BACK])
KEY = QueueKey(TOPIC.topic_id, 0)


@dataclass
class Known:
    """A transaction as the model sees it."""

    check_at_ms: int
    checks: int = 0
    bodies: list[bytes] = field(default_factory=list)
    ended: TransactionEnded | None = None
    outcome: Outcome | None = None


def _die(error: BaseException) -> None:
    raise error


class TransactionalMessages(RuleBasedStateMachine):
    """What is invisible is a list per transaction, what is visible one list."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms, self.sequence = 1_000, 0
        self.known: dict[TransactionId, Known] = {}
        self.visible: list[bytes] = []
        self.undecided: list[bytes] = []
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(TemporaryDirectory()))
        self._open()
        self.place = self.engine.catalog.topics.get_or_create_own(TopicName("%UNDECIDED%g")).topic_id
        self.engine.commit([opening("run/a/0", 1, "h")])

    def _open(self) -> None:
        self.running = ExitStack()
        running = running_engine(self.directory, clock=lambda: self.now_ms, segment=SEGMENT)
        self.engine, self.data = self.running.enter_context(running)

    def teardown(self) -> None:
        self.running.close()
        self.stack.close()

    def _publish(self, count: int, part: TransactionPart | None) -> tuple[object, list[bytes]]:
        bodies = [b"%d/%d" % (self.sequence + 1, number) for number in range(count)]
        runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, bodies, queue=0), 0, self.now_ms)
        publish = StorePublish(
            ProducerId("run/a/0"), 1, HolderId("h"), self.sequence + 1, None, runs, self.now_ms, part
        )
        (answer,) = self.engine.commit([publish]).answers
        self.sequence += isinstance(answer, Published)
        return answer, bodies

    @rule(count=st.integers(0, 3))
    def publish(self, count: int) -> None:
        _, bodies = self._publish(count, None)
        self.visible += bodies

    @rule(transaction_id=IDS, count=st.integers(0, 3))
    def join(self, transaction_id: TransactionId, count: int) -> None:
        known = self.known.setdefault(transaction_id, Known(self.now_ms + pause_ms(0)))
        answer, bodies = self._publish(count, TransactionPart(transaction_id, "g"))
        if known.outcome is None:
            assert isinstance(answer, Published)
            known.bodies += bodies
        else:
            assert isinstance(answer, TransactionUnknown)

    @rule(transaction_id=IDS, outcome=OUTCOMES)
    def end(self, transaction_id: TransactionId, outcome: Outcome) -> None:
        known = self.known.get(transaction_id)
        (answer,) = self.engine.commit([EndTransaction(transaction_id, outcome)]).answers
        if known is None or known.outcome not in (None, outcome):
            assert isinstance(answer, TransactionUnknown)
            return
        assert isinstance(answer, TransactionEnded)
        if known.outcome is not None:
            assert answer == known.ended
            return
        known.outcome, known.ended = outcome, answer
        if outcome is Outcome.COMMITTED:
            offsets = [at for run in answer.ranges for at in range(run.first_offset, run.first_offset + run.count)]
            assert offsets == [*range(len(self.visible), len(self.visible) + len(known.bodies))]
            self.visible += known.bodies

    @rule(passed_ms=st.sampled_from([0, 5_999, 6_000, 60_000]), times=st.sampled_from([1, 1, 1, MOST_CHECKS]))
    def check(self, passed_ms: int, times: int) -> None:
        for _ in range(times if self.now_ms + times * passed_ms < HOUR_MS else 0):  # then the ended are forgotten
            self.now_ms += passed_ms
            self._check()

    def _check(self) -> None:
        (answer,) = self.engine.commit([CheckTransactions()]).answers
        assert isinstance(answer, Checked)
        due = {
            key: known for key, known in self.known.items() if not known.outcome and known.check_at_ms <= self.now_ms
        }
        asked = {key: known for key, known in due.items() if known.checks < MOST_CHECKS}
        for known in asked.values():
            known.checks += 1
            known.check_at_ms = self.now_ms + pause_ms(known.checks)
        assert {check.transaction_id: check.number for check in answer.asked} == {
            key: known.checks for key, known in asked.items()
        }
        assert {check.transaction_id for check in answer.exhausted} == due.keys() - asked.keys()
        for check in answer.exhausted:
            known = self.known[check.transaction_id]
            self.engine.commit([GiveUpTransaction(check.transaction_id, self.place)])
            known.outcome = Outcome.UNDECIDED
            self.undecided += known.bodies

    @rule()
    def crash(self) -> None:
        self.running.close()
        self._open()

    @rule(is_stopped=st.booleans())
    def checkpoint(self, is_stopped: bool) -> None:
        Checkpointer(self.engine, self.data, Disk(), 1 << 30, _die).close()
        if is_stopped:
            self.crash()

    @invariant()
    def shows_what_the_lists_hold(self) -> None:
        assert bodies_of(self.engine, KEY) == self.visible
        assert bodies_of(self.engine, QueueKey(self.place, 0)) == self.undecided
        known, _ = self.engine.transacting.transactions.snapshot()
        assert known.keys() == {key for key, known in self.known.items() if known.outcome is None}


TestTransactionalMessages = TransactionalMessages.TestCase
TestTransactionalMessages.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
