"""The engine: decides each command in its order, appends, syncs once for all, shows, answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from broker.delivery.delay_index import DelayIndex
from broker.delivery.retention.retiring import Retired, RetireMessages, Retiring
from broker.engine.altering import Altering
from broker.engine.commands import (
    AlterTopic,
    BuryMessages,
    CheckTransactions,
    Command,
    DeleteGroup,
    DeleteTopic,
    DeliverDue,
    EndTransaction,
    GiveUpTransaction,
    GroupingCommand,
    Recall,
    ResetOffsets,
)
from broker.engine.delaying import Delaying
from broker.engine.grouping import Grouping
from broker.engine.journal import Journal
from broker.engine.leasing.commands import (
    BurySpent,
    Leased,
    LeaseMessages,
    LeasesSettled,
    LeasingAnswer,
    LeasingCommand,
    Moved,
    SettleLeases,
)
from broker.engine.leasing.for_groups import GroupLeases
from broker.engine.leasing.giving_up import Burying
from broker.engine.leasing.room import Leasing
from broker.engine.publishing import Publishing, Stored
from broker.engine.transacting import EndedBefore, Transacting
from broker.errors import BrokerError
from broker.groups.answers import GroupingAnswer, Queues
from broker.log.frame import Frame, Kind
from broker.model import (
    Checked,
    Delivered,
    Forgotten,
    Opened,
    Published,
    QueueKey,
    Recalled,
    Topic,
    TopicQueue,
    TransactionEnded,
)
from broker.producers.rules import Producer
from broker.producers.table import Producers
from broker.queues.catalog import Catalog
from broker.queues.finding import offset_at

Clock = Callable[[], int]
"""Milliseconds since the epoch."""

PublishingAnswer = Opened | Published | Producer | Forgotten
Answer = (
    PublishingAnswer
    | Delivered
    | Recalled
    | TransactionEnded
    | Checked
    | LeasingAnswer
    | GroupingAnswer
    | Topic
    | Retired
)


@dataclass(frozen=True, slots=True)
class Committed:
    """Answers in the order of the commands, all durable, and the queues that have more messages than before."""

    answers: Sequence[Answer | BrokerError]
    grown: Sequence[QueueKey]


class Engine:
    """One thread commits; any may read what is visible.

    Each room below decides its own commands and does its own frames again at recovery; all append to one journal.
    """

    def __init__(
        self, journal: Journal, producers: Producers, delays: DelayIndex, catalog: Catalog, clock: Clock
    ) -> None:
        self.log = journal.log
        self.queues = journal.queues
        self.log_index = journal.log_index
        self.delaying = Delaying(journal, delays)
        self.transacting = Transacting(journal)
        self.publishing = Publishing(journal, producers, self.delaying, self.transacting)
        self.leasing = Leasing(journal)
        self.catalog = catalog
        self.grouping = Grouping(journal, Queues(catalog.ranges, self._find), GroupLeases(self.leasing, catalog.topics))
        self.altering = Altering(journal, self.grouping, self.delaying)
        self.burying = Burying(journal, self.grouping)
        self.retiring = Retiring(
            journal.log,
            journal.queues,
            catalog.topics,
            self.grouping.groups,
            (self.delaying.hold, self.transacting.hold),
        )
        self._clock = clock

    def commit(self, commands: Sequence[Command]) -> Committed:
        """Does all commands as one group. An OSError leaves memory and disk apart: the process must end."""
        now_ms = self._clock()
        answers = [self._try(command, now_ms) for command in commands]
        self.log.flush()
        self.log_index.write()
        grown = self.queues.show()
        self.delaying.commit()
        return Committed([self._finish(answer) for answer in answers], grown)

    def _finish(self, answer: Answer | Stored | EndedBefore | BrokerError) -> Answer | BrokerError:
        """What stands in the log by now is read back."""
        match answer:
            case Stored():
                return self.publishing.recall(answer)
            case EndedBefore():
                return self.transacting.finish(answer)
            case _:
                return answer

    def _lease(self, command: LeasingCommand, now_ms: int) -> LeasingAnswer:
        """Who has left meanwhile gets nothing: nobody would give it back."""
        if isinstance(command, LeaseMessages) and not self.grouping.is_leasing(command.group, command.member_id):
            return Leased((), 0, now_ms, is_out=True)
        if isinstance(command, BurySpent) and not self.grouping.leases(command.group):
            return Moved(0)
        if isinstance(command, SettleLeases):
            self.grouping.hear(command.group, command.member_id, command.now)
        answer = self.leasing.do(command, now_ms)
        if isinstance(command, SettleLeases) and isinstance(answer, LeasesSettled):
            self.grouping.count(command.group, answer.done, now_ms)
        return answer

    def _try(self, command: Command, now_ms: int) -> Answer | Stored | EndedBefore | BrokerError:
        try:
            if isinstance(command, GroupingCommand):
                answer = self.grouping.do(command, now_ms)
                self._start_over(command, now_ms)
                return answer
            if isinstance(command, LeasingCommand):
                return self._lease(command, now_ms)
            match command:
                case DeliverDue() | Recall():
                    return self.delaying.do(command, now_ms)
                case EndTransaction() | CheckTransactions() | GiveUpTransaction():
                    return self.transacting.do(command, now_ms)
                case AlterTopic() | DeleteTopic():
                    return self.altering.do(command, now_ms)
                case BuryMessages():
                    return self.burying.do(command, now_ms)
                case RetireMessages():
                    return self.retiring.do(command, now_ms)
                case _:
                    return self.publishing.do(command, now_ms)
        except BrokerError as refusal:
            return refusal

    def _start_over(self, command: GroupingCommand, now_ms: int) -> None:
        """A group that reads anew publishes anew what that leads to."""
        match command:
            case ResetOffsets(reset) if not reset.preview:
                self.publishing.start_over(f"group/{reset.group}/{reset.topic}/", now_ms)
            case DeleteGroup(name):
                self.publishing.start_over(f"group/{name}/", now_ms)

    def _find(self, at: TopicQueue, at_ms: int) -> int:
        """The offset of a queue's first message stored then (milliseconds since the epoch) or later."""
        topic = self.catalog.topics.get(at.topic)
        if topic is None:
            return 0
        return offset_at(self.log_index, self.queues.queue(QueueKey(topic.topic_id, at.queue)), at_ms)

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame did; for recovery."""
        self.log_index.add(frame)
        match frame.kind:
            case Kind.PUBLISH | Kind.FENCE | Kind.FORGET:
                self.publishing.replay(frame)
            case Kind.GROUPS:
                self.grouping.replay(frame)
            case Kind.BURIALS:
                self.burying.replay(frame)
            case Kind.LEASES:
                self.leasing.replay(frame)
            case Kind.DELAYS:
                self.delaying.replay(frame)
            case Kind.TRANSACTIONS:
                self.transacting.replay(frame)
            case _:
                assert_never(frame.kind)

    def rooms(self) -> Mapping[str, object]:
        """What of the rooms' states the checkpoint keeps."""
        return {
            "queues": self.queues.sums(),
            "log_index": self.log_index.mark().numbers(),
            "delaying": self.delaying.snapshot(),
            "transacting": self.transacting.snapshot(),
            "grouping": self.grouping.snapshot(),
            "leasing": self.leasing.snapshot(),
        }

    def close(self) -> None:
        """Nothing may be asked afterwards."""
        self.log.close()
        self.queues.close()
        self.log_index.close()
        self.delaying.index.close()
