"""The engine: decides each command in its order, appends, syncs once for all, shows, answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from broker.engine.commands import Command
from broker.engine.journal import Journal
from broker.engine.publishing import Publishing, Stored
from broker.errors import BrokerError
from broker.log.commit_log import CommitLog
from broker.log.frame import Frame, Kind
from broker.model import Forgotten, Opened, Published, QueueKey
from broker.producers.rules import Producer
from broker.producers.table import Producers
from broker.queues.builder import QueueBuilder

Clock = Callable[[], int]
"""Milliseconds since the epoch."""

Answer = Opened | Published | Producer | Forgotten


@dataclass(frozen=True, slots=True)
class Committed:
    """Answers in the order of the commands, all durable, and the queues that have more messages than before."""

    answers: Sequence[Answer | BrokerError]
    grown: Sequence[QueueKey]


class Engine:
    """One thread commits; any may read what is visible.

    Each room below decides its own commands and does its own frames again at recovery; all append to one journal.
    """

    def __init__(self, log: CommitLog, queues: QueueBuilder, producers: Producers, clock: Clock) -> None:
        self.log = log
        self.queues = queues
        self.publishing = Publishing(Journal(log, queues), producers)
        self._clock = clock

    def commit(self, commands: Sequence[Command]) -> Committed:
        """Does all commands as one group. An OSError leaves memory and disk apart: the process must end."""
        now_ms = self._clock()
        answers = [self._try(command, now_ms) for command in commands]
        self.log.flush()
        grown = self.queues.show()
        return Committed([self.publishing.recall(a) if isinstance(a, Stored) else a for a in answers], grown)

    def _try(self, command: Command, now_ms: int) -> Answer | Stored | BrokerError:
        try:
            return self.publishing.do(command, now_ms)
        except BrokerError as refusal:
            return refusal

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame did; for recovery."""
        match frame.kind:
            case Kind.PUBLISH | Kind.FENCE | Kind.FORGET:
                self.publishing.replay(frame)
            case _:
                assert_never(frame.kind)

    def close(self) -> None:
        """Nothing may be asked afterwards."""
        self.log.close()
        self.queues.close()
