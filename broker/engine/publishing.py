"""The engine's room of producers: opens and fences them, stores what they publish, forgets them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from broker.engine.commands import (
    ForgetProducer,
    ForgetSilent,
    GetProducer,
    OpenProducer,
    PublishingCommand,
    RefusePublish,
    StorePublish,
)
from broker.engine.delaying import Delaying
from broker.engine.journal import Journal, ranges
from broker.engine.transacting import Transacting
from broker.errors import UnknownTopic
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
    stored_runs,
)
from broker.log.record import read_back
from broker.model import Forgotten, HolderId, Opened, Published
from broker.producers.rules import Producer, Verdict, known
from broker.producers.table import Producers
from broker.queues.encoding import EncodedRun

NO_PLACE = b""
"""The cursor of a producer that is to start over."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A publish stored before, whose ranges can be read back once the log is flushed; no position: not any more."""

    position: int | None


class Publishing:
    """For the writer's thread."""

    def __init__(self, journal: Journal, producers: Producers, delaying: Delaying, transacting: Transacting) -> None:
        self.producers = producers
        self._journal = journal
        self._delaying = delaying
        self._transacting = transacting

    def do(self, command: PublishingCommand, now_ms: int) -> Opened | Published | Producer | Forgotten | Stored:
        """Raises ProducerUnknown, SequenceGap, StaleTerm, UnknownTopic, and what a RefusePublish carries."""
        match command:
            case StorePublish():
                return self._stored_before(command) or self._publish(command)
            case RefusePublish(refusal=refusal):
                if stored := self._stored_before(command):
                    return stored
                raise refusal
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

    def recall(self, stored: Stored) -> Published:
        """What the first copy of a duplicate was answered."""
        log = self._journal.log
        first = b"" if stored.position is None else log.read(stored.position, HEADER.size + HEAD_BYTES)
        size = publish_head_size(first[HEADER.size :]) if len(first) == HEADER.size + HEAD_BYTES else 0
        at = (stored.position or 0) + HEADER.size
        encoded = log.read(at, size)
        if not size or len(encoded) < size:  # retention has deleted it, at the latest just now
            return Published(duplicate=True, ranges=(), stored_at_ms=0)
        head = decode_publish_head(encoded)
        found = ranges(() if head.transaction else head.runs, at + size, self._delayed_sizes(head.runs, at + size))
        return Published(duplicate=True, ranges=found, stored_at_ms=stored_at_ms(first))

    def _delayed_sizes(self, runs: Sequence[RunHead], position: int) -> Iterator[Sequence[int]]:
        """Of each run's records, if they are delayed and still there."""
        for run in runs:
            records = read_back(self._journal.log.read(position, run.size), run.count) if run.is_delayed else None
            yield records.sizes if records else ()
            position += run.size

    def start_over(self, prefix: str, now_ms: int) -> None:
        """Whoever opens one of the producers below goes on from no cursor, and their holders are fenced."""
        for producer_id, state in self.producers.below(prefix):
            fence = Fence(producer_id, state.term + 1, HolderId(state.holder_id))
            self._journal.append(Kind.FENCE, [encode_fence(fence)], now_ms)
            self.producers.apply_fence(fence, now_ms)
            head = PublishHead(producer_id, fence.term, state.last_sequence + 1, NO_PLACE, ())
            position = self._journal.append(Kind.PUBLISH, [encode_publish_head(head)], now_ms)
            self.producers.apply_publish(head, now_ms, position)

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame of this room did."""
        match frame.kind:
            case Kind.PUBLISH:
                head = decode_publish_head(frame.payload)
                self._journal.index_again(frame, stored_runs(frame))
                self._delaying.apply(frame)
                if head.transaction is not None:
                    self._transacting.take(head.transaction, frame.position, head.runs, frame.stored_at_ms)
                self.producers.apply_publish(head, frame.stored_at_ms, frame.position)
            case Kind.FENCE:
                self.producers.apply_fence(decode_fence(frame.payload), frame.stored_at_ms)
            case Kind.FORGET:
                self.producers.apply_forget(decode_forget(frame.payload))

    def _open(self, command: OpenProducer, now_ms: int) -> Opened:
        if self.producers.judge_open(command.producer_id, command.term, command.holder_id):
            fence = Fence(command.producer_id, command.term, command.holder_id)
            self._journal.append(Kind.FENCE, [encode_fence(fence)], now_ms)
            self.producers.apply_fence(fence, now_ms)
        state = self.producers.get(command.producer_id)
        assert state is not None
        return Opened(state.last_sequence, state.cursor)

    def _stored_before(self, command: StorePublish | RefusePublish) -> Stored | None:
        """The first copy, if this is a duplicate."""
        verdict = self.producers.judge_publish(command.producer_id, command.term, command.holder_id, command.sequence)
        if verdict is Verdict.STORE:
            return None
        state = self.producers.get(command.producer_id)
        return Stored(state.position_of(command.sequence) if state else None)

    def _publish(self, command: StorePublish) -> Published:
        runs = self._placed(command.runs)
        if command.transaction is not None:
            self._transacting.judge(command.transaction, runs, command.stored_at_ms)
        heads = self._journal.give_offsets(runs)
        head = PublishHead(
            command.producer_id, command.term, command.sequence, command.cursor, heads, command.transaction
        )
        encoded = encode_publish_head(head)
        payload = [encoded, *(run.records.data for run in runs)]
        position = self._journal.append(Kind.PUBLISH, payload, command.stored_at_ms)
        self.producers.apply_publish(head, command.stored_at_ms, position)
        if command.transaction is not None:
            self._transacting.take(command.transaction, position, heads, command.stored_at_ms)
            return Published(duplicate=False, ranges=(), stored_at_ms=command.stored_at_ms)
        records_at = records_position(position, encoded)
        self._journal.index(runs, records_at)
        self._delaying.take(runs, records_at)
        delayed_sizes = (run.records.sizes if run.dues else () for run in runs)
        found = ranges(heads, records_at, delayed_sizes)
        return Published(duplicate=False, ranges=found, stored_at_ms=command.stored_at_ms)

    def _placed(self, runs: Sequence[EncodedRun]) -> Sequence[EncodedRun]:
        """The runs on the queues that their topics have now. Raises UnknownTopic for one that was deleted meanwhile."""
        topics = self._journal.topics
        for run in runs:
            if topics.by_id(run.key.topic_id) is None:
                raise UnknownTopic(topic=topics.name_of(run.key.topic_id))
        return self._journal.placed(runs)

    def _forget(self, name: str, now_ms: int) -> int:
        self._journal.append(Kind.FORGET, [encode_forget(name)], now_ms)
        return self.producers.apply_forget(name)
