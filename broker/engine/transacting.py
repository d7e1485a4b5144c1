"""The engine's room of transactions: keeps what belongs to each, copies it into queues at the commit, checks the open.

The frame that ends a transaction holds the copies of all its records, so that they become visible together.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from broker.delivery.retention.rules import Hold, Holder, HolderKind
from broker.engine.commands import CheckTransactions, EndTransaction, GiveUpTransaction, TransactingCommand
from broker.engine.journal import Journal, ranges
from broker.errors import LogDamaged, UnknownTopic
from broker.log.commit_log import CommitLog
from broker.log.frame import HEADER, Frame, Kind, decode_frame, frame_length
from broker.log.payload import (
    HEAD_BYTES,
    PublishHead,
    RunHead,
    decode_change_head,
    decode_publish_head,
    publish_head_size,
)
from broker.log.record import Records, read_back
from broker.model import (
    Check,
    Checked,
    QueueKey,
    TopicId,
    TransactionEnded,
    TransactionId,
    TransactionPart,
)
from broker.producers.transactions import MOST_CHECKS, Ended, Open, Outcome, Transactions
from broker.producers.undecided import undecided
from broker.queues.encoding import EncodedRun

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EndedBefore:
    """A transaction that ended like that already; its ranges can be read back once the log is flushed."""

    position: int


class Transacting:
    """For the writer's thread."""

    def __init__(self, journal: Journal) -> None:
        self.transactions = Transactions()
        self._journal = journal

    def restore(self, snapshot: object, most_open: int) -> None:
        """Everything as the checkpoint had it."""
        stored = snapshot if isinstance(snapshot, dict) else {"open": {}, "ended": {}}
        known = {TransactionId(key): Open(*value) for key, value in stored["open"].items()}
        ended = {TransactionId(key): Ended(Outcome(how), *rest) for key, (how, *rest) in stored["ended"].items()}
        self.transactions = Transactions(known, ended, most_open)

    def judge(self, part: TransactionPart, runs: Sequence[EncodedRun], now_ms: int) -> None:
        """Whether a publish may join its transaction. Raises BadRequest, TooLarge, TooMany, TransactionUnknown."""
        self.transactions.judge_join(part, *_measure(runs), now_ms)

    def take(self, part: TransactionPart, position: int, heads: Sequence[RunHead], at_ms: int) -> None:
        """A publish of this transaction was stored, now or before this start."""
        messages, size = sum(head.count for head in heads), sum(head.size for head in heads)
        self.transactions.join(part, position, messages, size, at_ms)

    def do(self, command: TransactingCommand, now_ms: int) -> TransactionEnded | EndedBefore | Checked:
        """Raises LogDamaged, TransactionUnknown, and UnknownTopic where an undecided one cannot go."""
        match command:
            case EndTransaction(transaction_id, outcome):
                return self._end(transaction_id, outcome, now_ms)
            case CheckTransactions():
                return self._check(now_ms)
            case GiveUpTransaction(transaction_id, topic_id):
                return self._give_up(transaction_id, topic_id, now_ms)

    def finish(self, ended: EndedBefore) -> TransactionEnded:
        """What the first one who ended it was answered; no ranges if they are not stored any more."""
        log, at = self._journal.log, ended.position + HEADER.size
        first = log.read(at, HEAD_BYTES)
        size = publish_head_size(first) if len(first) == HEAD_BYTES else 0
        encoded = log.read(at, size)
        if not size or len(encoded) < size:  # retention has deleted it, at the latest just now
            return TransactionEnded(())
        return TransactionEnded(ranges(decode_change_head(encoded)[1]))

    def hold(self) -> Hold | None:
        """What the oldest open transaction needs of the log, if there is one; from any thread."""
        lowest = self.transactions.lowest()
        if lowest is None:
            return None
        return Hold(Holder(HolderKind.TRANSACTION, lowest.producer_group), lowest.positions[0])

    def _end(self, transaction_id: TransactionId, outcome: Outcome, now_ms: int) -> TransactionEnded | EndedBefore:
        ended = self.transactions.ended(transaction_id, outcome)
        if ended is not None:
            return EndedBefore(ended.position)
        known = self.transactions.get(transaction_id)
        runs = [*self._copies(known)] if outcome is Outcome.COMMITTED else []
        return self._store_end(transaction_id, outcome, runs, now_ms)

    def _store_end(
        self, transaction_id: TransactionId, outcome: Outcome, runs: Sequence[EncodedRun], now_ms: int
    ) -> TransactionEnded:
        change = json.dumps({"ended": transaction_id, "outcome": outcome}).encode()
        appended = self._journal.append_change(Kind.TRANSACTIONS, change, runs, now_ms)
        self.transactions.end(transaction_id, Ended(outcome, appended.position, now_ms))
        return TransactionEnded(ranges(appended.heads))

    def _copies(self, known: Open) -> Iterator[EncodedRun]:
        """All messages of all its publishes, in their order; batches are counted on."""
        first_batch = 0
        for head, parts in self._publishes(known):
            for run, records in zip(head.runs, parts, strict=True):
                key = QueueKey(TopicId(run.topic_id), run.queue)
                yield EncodedRun(first_batch + run.batch, key, run.indexes, records, placed_over=run.placed_over)
            first_batch += max((run.batch + 1 for run in head.runs), default=0)

    def _publishes(self, known: Open) -> Iterator[tuple[PublishHead, Sequence[Records]]]:
        if known.positions[-1] >= self._journal.log.written:  # ended before its publishes were acknowledged
            self._journal.log.flush()
        for position in known.positions:
            yield read_publish(self._journal.log, position)

    def _check(self, now_ms: int) -> Checked:
        """Counts a check of all that are due for one, whether anybody is there to be asked or not, as RocketMQ does."""
        due = self.transactions.due(now_ms)
        asked = [transaction_id for transaction_id, known in due if known.checks < MOST_CHECKS]
        if asked:
            change = json.dumps({"checked": asked}).encode()
            self._journal.append_change(Kind.TRANSACTIONS, change, (), now_ms)
        for transaction_id in asked:
            self.transactions.check(transaction_id, now_ms)
        checks = [
            Check(transaction_id, known.producer_group, known.checks + 1, known.positions[0])
            for transaction_id, known in due
        ]
        return Checked(
            [check for check in checks if check.number <= MOST_CHECKS],
            [check for check in checks if check.number > MOST_CHECKS],
        )

    def _give_up(self, transaction_id: TransactionId, topic_id: TopicId, now_ms: int) -> TransactionEnded:
        known = self.transactions.get(transaction_id)
        if self._journal.topics.by_id(topic_id) is None:
            raise UnknownTopic(topic=self._journal.topics.name_of(topic_id))
        try:
            records = undecided(self._publishes(known), transaction_id, self._name_of, now_ms)
        except LogDamaged as error:
            log.error("an undecided transaction is damaged", action="transaction_damaged", exc_info=error)
            records = None
        runs = [EncodedRun(0, QueueKey(topic_id, 0), (), records)] if records is not None else []
        return self._store_end(transaction_id, Outcome.UNDECIDED, runs, now_ms)

    def _name_of(self, topic_id: TopicId) -> str:
        """ "" if it was deleted."""
        topic = self._journal.topics.by_id(topic_id)
        return topic.name if topic else ""

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame of this room did."""
        encoded, heads = decode_change_head(frame.payload)
        self._journal.index_again(frame, heads)
        change = json.loads(encoded)
        if "ended" in change:
            ended = Ended(Outcome(change["outcome"]), frame.position, frame.stored_at_ms)
            self.transactions.end(TransactionId(change["ended"]), ended)
        else:
            for transaction_id in change["checked"]:
                self.transactions.check(TransactionId(transaction_id), frame.stored_at_ms)

    def snapshot(self) -> object:
        """For the checkpoint."""
        known, ended = self.transactions.snapshot()
        return {"open": known, "ended": ended}


def read_publish(log: CommitLog, position: int) -> tuple[PublishHead, Sequence[Records]]:
    """A stored publish and the records of each of its runs. Raises LogDamaged."""
    frame = decode_frame(log.read(position, frame_length(log.read(position, HEADER.size))), position)
    if frame is None:
        raise LogDamaged(position=position, path=log.path_of(position), reason="a publish is not whole")
    head, at, parts = decode_publish_head(frame.payload), publish_head_size(frame.payload), []
    for run in head.runs:
        records = read_back(frame.payload[at : at + run.size], run.count)
        assert records is not None  # the frame is whole
        parts.append(records)
        at += run.size
    return head, parts


def _measure(runs: Sequence[EncodedRun]) -> tuple[int, int]:
    """Messages and bytes of records."""
    return sum(len(run.records.sizes) for run in runs), sum(len(run.records.data) for run in runs)
