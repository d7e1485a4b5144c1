"""The engine: decides each command in its order, appends, syncs once for all, shows, answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from broker.delivery.delay_index import DelayIndex
from broker.engine.commands import Command, DeliverDue, Recall
from broker.engine.delaying import Delaying
from broker.engine.journal import Journal
from broker.engine.publishing import Publishing, Stored
from broker.errors import BrokerError
from broker.log.frame import Frame, Kind
from broker.model import Delivered, Forgotten, Opened, Published, QueueKey, Recalled
from broker.producers.rules import Producer
from broker.producers.table import Producers

Clock = Callable[[], int]
"""Milliseconds since the epoch."""

Answer = Opened | Published | Producer | Forgotten | Delivered | Recalled


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
        self, journal: Journal, producers: Producers, delays: DelayIndex, clock: Clock
    ) -> None:
        self.log = journal.log
        self.queues = journal.queues
        self.log_index = journal.log_index
        self.delaying = Delaying(journal, delays)
        self.publishing = Publishing(journal, producers, self.delaying)
        self._clock = clock

    def commit(self, commands: Sequence[Command]) -> Committed:
        """Does all commands as one group. An OSError leaves memory and disk apart: the process must end."""
        now_ms = self._clock()
        answers = [self._try(command, now_ms) for command in commands]
        self.log.flush()
        self.log_index.write()
        grown = self.queues.show()
        self.delaying.commit()
        return Committed([self.publishing.recall(a) if isinstance(a, Stored) else a for a in answers], grown)

    def _try(self, command: Command, now_ms: int) -> Answer | Stored | BrokerError:
        try:
            match command:
                case DeliverDue() | Recall():
                    return self.delaying.do(command, now_ms)
                case _:
                    return self.publishing.do(command, now_ms)
        except BrokerError as refusal:
            return refusal

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame did; for recovery."""
        self.log_index.add(frame)
        match frame.kind:
            case Kind.PUBLISH | Kind.FENCE | Kind.FORGET:
                self.publishing.replay(frame)
            case Kind.DELAYS:
                self.delaying.replay(frame)
            case Kind.TRANSACTIONS:
                raise NotImplementedError
            case _:
                assert_never(frame.kind)

    def rooms(self) -> Mapping[str, object]:
        """What of the rooms' states the checkpoint keeps."""
        return {"log_index": self.log_index.mark().numbers(), "delaying": self.delaying.index.complete}

    def close(self) -> None:
        """Nothing may be asked afterwards."""
        self.log.close()
        self.queues.close()
        self.log_index.close()
        self.delaying.index.close()
