"""The engine: decides each command in its order, appends, syncs once for all, shows, answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from broker.engine.commands import Command, ForgetProducer, ForgetSilent, GetProducer, OpenProducer, StorePublish
from broker.errors import BrokerError
from broker.log.commit_log import CommitLog
from broker.log.frame import HEADER, Frame, Kind, stored_at_ms
from broker.log.payload import (
    HEAD_BYTES,
    Fence,
    PublishHead,
    RunHead,
    decode_fence,
    decode_forget,
    decode_publish_head,
    encode_fence,
    encode_forget,
    encode_publish_head,
    publish_head_size,
    records_position,
)
from broker.log.record import encode_entries, rebuild_entries
from broker.model import Forgotten, Opened, Published, QueueKey, Range, TopicId
from broker.producers.rules import Producer, Verdict, known
from broker.producers.table import Producers
from broker.queues.builder import QueueBuilder
from broker.queues.encoding import EncodedRun

Clock = Callable[[], int]
"""Milliseconds since the epoch."""

Answer = Opened | Published | Producer | Forgotten


@dataclass(frozen=True, slots=True)
class _Stored:
    """A publish stored before, whose ranges can be read back once the log is flushed; no position: not any more."""

    position: int | None


@dataclass(frozen=True, slots=True)
class Committed:
    """Answers in the order of the commands, all durable, and the queues that have more messages than before."""

    answers: Sequence[Answer | BrokerError]
    grown: Sequence[QueueKey]


class Engine:
    """One thread commits; any may read what is visible."""

    def __init__(self, log: CommitLog, queues: QueueBuilder, producers: Producers, clock: Clock) -> None:
        self.log = log
        self.queues = queues
        self.producers = producers
        self._clock = clock

    def commit(self, commands: Sequence[Command]) -> Committed:
        """Does all commands as one group. An OSError leaves memory and disk apart: the process must end."""
        now_ms = self._clock()
        answers = [self._try(command, now_ms) for command in commands]
        self.log.flush()
        grown = self.queues.show()
        return Committed([self._recall(a) if isinstance(a, _Stored) else a for a in answers], grown)

    def _try(self, command: Command, now_ms: int) -> Answer | _Stored | BrokerError:
        try:
            return self._do(command, now_ms)
        except BrokerError as refusal:
            return refusal

    def _do(self, command: Command, now_ms: int) -> Answer | _Stored:
        match command:
            case StorePublish():
                return self._publish(command)
            case OpenProducer():
                return self._open(command, now_ms)
            case GetProducer(producer_id):
                return known(producer_id, self.producers.get(producer_id))
            case ForgetProducer(name):
                return Forgotten(self._forget(name, now_ms))
            case ForgetSilent():
                return Forgotten(sum(self._forget(name, now_ms) for name in self.producers.silent(now_ms)))
            case _:
                assert_never(command)

    def _open(self, command: OpenProducer, now_ms: int) -> Opened:
        if self.producers.judge_open(command.producer_id, command.term, command.holder_id):
            fence = Fence(command.producer_id, command.term, command.holder_id)
            self.log.append(Kind.FENCE, [encode_fence(fence)], now_ms)
            self.producers.apply_fence(fence, now_ms)
        state = self.producers.get(command.producer_id)
        assert state is not None
        return Opened(state.last_sequence, state.cursor)

    def _publish(self, command: StorePublish) -> Published | _Stored:
        verdict = self.producers.judge_publish(command.producer_id, command.term, command.holder_id, command.sequence)
        if verdict is Verdict.DUPLICATE:
            state = self.producers.get(command.producer_id)
            return _Stored(state.position_of(command.sequence) if state else None)
        head = PublishHead(
            command.producer_id, command.term, command.sequence, command.cursor, self._give_offsets(command.runs)
        )
        encoded_head = encode_publish_head(head)
        payload = [encoded_head, *(run.records.data for run in command.runs)]
        position = self.log.append(Kind.PUBLISH, payload, command.stored_at_ms)
        self._index(command.runs, records_position(position, encoded_head))
        self.producers.apply_publish(head, command.stored_at_ms, position)
        return Published(duplicate=False, ranges=_ranges(head), stored_at_ms=command.stored_at_ms)

    def _give_offsets(self, runs: Sequence[EncodedRun]) -> list[RunHead]:
        """The offsets that the runs will have once they are indexed."""
        heads, taken = [], dict[QueueKey, int]()
        for run in runs:
            first, count = taken.get(run.key) or self.queues.next_offset(run.key), len(run.records.sizes)
            taken[run.key] = first + count
            heads.append(RunHead(run.batch, *run.key, first, count, len(run.records.data), run.indexes))
        return heads

    def _index(self, runs: Sequence[EncodedRun], position: int) -> None:
        for run in runs:
            self.queues.add(run.key, encode_entries(run.records, position))
            position += len(run.records.data)

    def _forget(self, name: str, now_ms: int) -> int:
        self.log.append(Kind.FORGET, [encode_forget(name)], now_ms)
        return self.producers.apply_forget(name)

    def _recall(self, stored: _Stored) -> Published:
        """What the first copy of a duplicate was answered."""
        if stored.position is None:
            return Published(duplicate=True, ranges=(), stored_at_ms=0)
        at = stored.position + HEADER.size
        size = publish_head_size(self.log.read(at, HEAD_BYTES))
        head = decode_publish_head(self.log.read(at, size))
        header = self.log.read(stored.position, HEADER.size)
        return Published(duplicate=True, ranges=_ranges(head), stored_at_ms=stored_at_ms(header))

    def close(self) -> None:
        """Nothing may be asked afterwards."""
        self.log.close()
        self.queues.close()

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame did; for recovery."""
        match frame.kind:
            case Kind.PUBLISH:
                self._replay_publish(frame)
            case Kind.FENCE:
                self.producers.apply_fence(decode_fence(frame.payload), frame.stored_at_ms)
            case Kind.FORGET:
                self.producers.apply_forget(decode_forget(frame.payload))
            case _:
                assert_never(frame.kind)

    def _replay_publish(self, frame: Frame) -> None:
        head = decode_publish_head(frame.payload)
        start = publish_head_size(frame.payload)
        for run in head.runs:
            position = frame.position + HEADER.size + start
            entries = rebuild_entries(frame.payload, start, run.count, position)
            self.queues.add(QueueKey(TopicId(run.topic_id), run.queue), entries)
            start += run.size
        self.queues.show()
        self.producers.apply_publish(head, frame.stored_at_ms, frame.position)


def _ranges(head: PublishHead) -> list[Range]:
    return [
        Range(run.batch, TopicId(run.topic_id), run.queue, run.first_offset, run.count, run.indexes)
        for run in head.runs
    ]  # fmt: skip
