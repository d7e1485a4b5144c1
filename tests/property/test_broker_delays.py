"""Delayed messages against plain lists: publish, due, recall, crash, checkpoint, lose the index, reopen."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from broker.engine.commands import DeliverDue, Recall, StorePublish
from broker.engine.opening import Checkpointer
from broker.errors import HandleUnknown
from broker.log.disk import Disk
from broker.model import Attributes, Delivered, HolderId, ProducerId, Published, QueueKey, Recalled, TopicBatch
from broker.queues.encoding import encode_batch
from tests.support.broker_engine import TOPIC, bodies_of, opening, running_engine

SEGMENT = 4_096
QUEUES = range(2)
Message = tuple[int, int, int]
"""Due time, number (rising with the position), queue."""


def _die(error: BaseException) -> None:
    raise error


class DelayedMessages(RuleBasedStateMachine):
    """What is pending is a set, what is visible a list per queue."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.now_ms, self.sequence, self.number = 1_000, 0, 0
        self.pending: dict[int, Message] = {}  # by handle
        self.visible: dict[int, list[bytes]] = {queue: [] for queue in QUEUES}
        self.stack = ExitStack()

    @initialize()
    def start(self) -> None:
        self.directory = Path(self.stack.enter_context(TemporaryDirectory()))
        self._open()
        self.engine.commit([opening("run/a/0", 1, "h")])

    def _open(self) -> None:
        self.running = ExitStack()
        running = running_engine(self.directory, clock=lambda: self.now_ms, segment=SEGMENT)
        self.engine, self.data = self.running.enter_context(running)

    def teardown(self) -> None:
        self.running.close()
        self.stack.close()

    @rule(
        target=handles,
        queue=st.sampled_from(QUEUES),
        delays=st.lists(st.sampled_from([0, 5, 5, 5, 20, 1_000]), min_size=1, max_size=6),
    )
    def publish(self, queue: int, delays: list[int]) -> object:
        self.sequence += 1
        numbers = range(self.number, self.number + len(delays))
        self.number += len(delays)
        bodies = [b"%d" % number for number in numbers]
        attributes = {index: Attributes({}, self.now_ms + delay) for index, delay in enumerate(delays)}
        runs = encode_batch(
            0, TOPIC, TopicBatch(TOPIC.name, bodies, attributes=attributes, queue=queue), 0, self.now_ms
        )
        command = StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), self.sequence, None, runs, self.now_ms)
        (answer,) = self.engine.commit([command]).answers
        assert isinstance(answer, Published)
        later = [(self.now_ms + delay, number, queue) for delay, number in zip(delays, numbers, strict=True) if delay]
        handles = [handle for part in answer.ranges for handle in part.handles]
        self.pending |= dict(zip(handles, later, strict=True))
        self.visible[queue] += [body for body, delay in zip(bodies, delays, strict=True) if not delay]
        return multiple(*handles)

    @rule(handle=handles)
    def recall(self, handle: int) -> None:
        (answer,) = self.engine.commit([Recall(handle)]).answers
        if self.pending.pop(handle, None) is None:
            assert isinstance(answer, HandleUnknown)
        else:
            assert answer == Recalled()

    @rule(passed_ms=st.sampled_from([0, 1, 4, 5, 30, 2_000]))
    def deliver(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        (answer,) = self.engine.commit([DeliverDue()]).answers
        due = sorted(message for message in self.pending.values() if message[0] <= self.now_ms)
        self.pending = {handle: message for handle, message in self.pending.items() if message[0] > self.now_ms}
        assert answer == Delivered(len(due), min((message[0] for message in self.pending.values()), default=None))
        for _, number, queue in due:
            self.visible[queue].append(b"%d" % number)

    @rule()
    def crash(self) -> None:
        self.running.close()
        self._open()

    @rule()
    def stop_cleanly(self) -> None:
        Checkpointer(self.engine, self.data, Disk(), 1 << 30, _die).close()
        self.crash()

    @rule(is_checkpointed=st.booleans())
    def lose_the_index(self, is_checkpointed: bool) -> None:
        if is_checkpointed:
            Checkpointer(self.engine, self.data, Disk(), 1 << 30, _die).close()
        self.running.close()
        for file in self.directory.glob("delays.sqlite*"):
            file.unlink()
        self._open()

    @rule()
    def commit_the_index(self) -> None:
        self.engine.delaying.snapshot()

    @invariant()
    def holds_what_the_lists_hold(self) -> None:
        for queue in QUEUES:
            assert bodies_of(self.engine, QueueKey(TOPIC.topic_id, queue)) == self.visible[queue]
        index = self.engine.delaying.index
        assert index.pending(TOPIC.topic_id) == len(self.pending)
        lowest = index.lowest()
        assert (lowest is None) == (not self.pending)
        assert lowest is None or lowest[0] <= min(self.pending)


TestDelayedMessages = DelayedMessages.TestCase
TestDelayedMessages.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
