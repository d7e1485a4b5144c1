"""The producer's rules against a model: several in flight, lost answers, resends, takeovers, crashes, late holders."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.delivery.reader import read_batch
from broker.engine.commands import Command, ForgetProducer
from broker.engine.engine import Answer
from broker.engine.opening import Checkpointer
from broker.errors import BrokerError, ProducerUnknown, SequenceGap, StaleTerm
from broker.model import Opened, ProducerId, Published, QueueKey
from tests.support.broker_engine import TOPIC, FragileDisk, PowerLoss, opening, publishing, running_engine

RUN = "run/r/0"
HOLDERS = st.integers(0, 3)


class Holder:
    """A client that keeps to the contract: what is not acknowledged is sent again, same bytes, from the first."""

    def __init__(self, number: int) -> None:
        self.term = 1 + number // 2  # two holders share each term: only one of them may ever publish under it
        self.name = f"holder-{number}"
        self.next: int | None = None
        self.unacknowledged: dict[int, bytes] = {}
        self.acknowledged: dict[int, bytes] = {}

    def next_body(self) -> tuple[int, bytes]:
        assert self.next is not None
        sequence, self.next = self.next, self.next + 1
        body = f"{self.name}:{sequence}".encode()
        self.unacknowledged[sequence] = body
        return sequence, body


class Producers(RuleBasedStateMachine):
    """One producer id, four holders, one broker that may crash in the middle of any group."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.holders = [Holder(number) for number in range(4)]
        self.waiting: list[tuple[Holder, Command]] = []
        self.forgotten = False
        self.fenced_term = 0
        self.fenced_by = ""
        self.start()

    def start(self) -> None:
        self.disk = FragileDisk()
        self.running = running_engine(Path(self.directory.name) / "data", self.disk)
        self.engine, self.data = self.running.__enter__()

    @rule(number=HOLDERS)
    def ask_to_open(self, number: int) -> None:
        holder = self.holders[number]
        if holder.next is None:
            self.waiting.append((holder, opening(RUN, holder.term, holder.name)))

    @rule(number=HOLDERS, count=st.integers(1, 3))
    def send(self, number: int, count: int) -> None:
        holder = self.holders[number]
        for _ in range(count if holder.next is not None else 0):
            self._send(holder, *holder.next_body())

    @rule(number=HOLDERS)
    def send_again_on_a_new_stream(self, number: int) -> None:
        holder = self.holders[number]
        self.waiting = [given for given in self.waiting if given[0] is not holder]
        for sequence, body in holder.unacknowledged.items():
            self._send(holder, sequence, body)

    def _send(self, holder: Holder, sequence: int, body: bytes) -> None:
        command = publishing(RUN, holder.term, holder.name, sequence, body, cursor=body)
        self.waiting.append((holder, command))

    @precondition(lambda self: self.waiting)
    @rule(answers_arrive=st.booleans())
    def commit(self, answers_arrive: bool) -> None:
        committed = self.engine.commit([command for _, command in self.waiting])
        for (holder, command), answer in zip(self.waiting, committed.answers, strict=True):
            self._check_fence(holder, answer)
            if answers_arrive:
                self._hear(holder, command, answer)
        self.waiting.clear()

    def _check_fence(self, holder: Holder, answer: Answer | BrokerError) -> None:
        is_late = (holder.term, holder.name) != (self.fenced_term, self.fenced_by)
        if isinstance(answer, Opened):
            assert not self.forgotten
            assert holder.term > self.fenced_term or not is_late
            self.fenced_term, self.fenced_by = holder.term, holder.name
        elif isinstance(answer, Published):
            assert not self.forgotten
            assert not is_late
        else:
            assert isinstance(answer, StaleTerm | ProducerUnknown | SequenceGap)
            assert self.forgotten == isinstance(answer, ProducerUnknown) or holder.term > self.fenced_term

    def _hear(self, holder: Holder, command: Command, answer: Answer | BrokerError) -> None:
        if isinstance(answer, Opened) and holder.next is None:
            holder.next = answer.last_sequence + 1
        elif isinstance(answer, Published):
            assert not isinstance(command, ForgetProducer)
            body = holder.unacknowledged.pop(command.sequence, None)
            if body is not None:
                holder.acknowledged[command.sequence] = body

    @rule(bytes_written=st.integers(0, 600))
    def lose_power(self, bytes_written: int) -> None:
        """What waited was on its way to the disk; nobody is answered, every stream breaks."""
        self.disk.budget = bytes_written
        with suppress(PowerLoss):  # a group of duplicates writes nothing
            self.engine.commit([command for _, command in self.waiting])
        self.restart()

    @rule()
    def store_a_checkpoint(self) -> None:
        Checkpointer(self.engine, self.data, self.disk, 1, die=pytest.fail).close()

    @rule()
    def restart(self) -> None:
        self.waiting.clear()
        self.running.__exit__(None, None, None)
        self.start()
        state = self.engine.publishing.producers.get(ProducerId(RUN))
        if state is not None:  # a fence whose answer was lost may have reached the disk
            assert state.term >= self.fenced_term
            self.fenced_term, self.fenced_by = state.term, state.holder_id
        assert self.forgotten <= (state is None)

    @precondition(lambda self: self.fenced_term == 2)
    @rule()
    def forget(self) -> None:
        self.waiting.clear()
        self.engine.commit([ForgetProducer("run/r/")])
        self.forgotten = True

    @invariant()
    def every_acknowledged_publish_is_stored_exactly_once_and_in_order(self) -> None:
        queue = self.engine.queues.queue(QueueKey(TOPIC.topic_id, 0))
        stored: list[bytes] = []
        while len(stored) < queue.end:
            stored += read_batch(
                self.engine.log, queue, TOPIC.topic_id, len(stored), max_messages=100, max_bytes=10_000
            ).bodies
        sequences = [int(body.split(b":")[1]) for body in stored]
        assert sequences == [*range(1, len(stored) + 1)]
        for holder in self.holders:
            for sequence, body in holder.acknowledged.items():
                assert stored[sequence - 1] == body

    @invariant()
    def the_cursor_is_that_of_the_last_stored_publish(self) -> None:
        state = self.engine.publishing.producers.get(ProducerId(RUN))
        if state is not None and state.last_sequence:
            assert state.cursor is not None
            assert int(state.cursor.split(b":")[1]) == state.last_sequence

    def teardown(self) -> None:
        self.running.__exit__(None, None, None)
        self.directory.cleanup()


TestProducers = Producers.TestCase
TestProducers.settings = settings(stateful_step_count=30, max_examples=100, deadline=None)
