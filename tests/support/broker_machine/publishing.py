"""Rules of the machine: publishes of every kind, fenced holders, duplicates, torn writes, delays and transactions."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from broker.errors import HandleUnknown, SequenceGap, StaleTerm, TransactionUnknown
from broker.model import (
    Attributes,
    HolderId,
    ProducerId,
    Publish,
    Published,
    Range,
    TopicBatch,
    TopicName,
    TransactionEnded,
    TransactionId,
    TransactionPart,
)
from broker.producers.transactions import Outcome
from tests.support.broker_machine.base import TOPIC_NAMES, TOPICS, Machine
from tests.support.broker_model import Place, Sent, Topic

SHOP = "shop"
UNDECIDED = f"%UNDECIDED%{SHOP}"
CHECK_MS, CHECKS = 61_000, 15
REMEMBERED_MS = 3_600_000

_Drawn = tuple[str, Sequence[tuple[str, bool, int]], int | None]


def _batches(*delays: int) -> st.SearchStrategy[list[_Drawn]]:
    message = st.tuples(st.sampled_from(["", "k1", "k2", "k3", "k0"]), st.booleans(), st.sampled_from([0, *delays]))
    batch = st.tuples(TOPICS, st.lists(message, min_size=1, max_size=8), st.sampled_from([None, None, None, 0, 1]))
    return st.lists(batch, min_size=1, max_size=3)


@dataclass(slots=True)
class Producer:
    """Where one producer stands, and what it was answered last."""

    producer_id: ProducerId
    term: int = 1
    sequence: int = 0
    last: Publish | None = None
    answer: Published | None = None
    cursor: bytes | None = None

    @property
    def holder(self) -> HolderId:
        return HolderId(f"h{self.term}")


@dataclass(frozen=True, slots=True)
class Ended:
    """A transaction that has an outcome."""

    outcome: Outcome
    answer: TransactionEnded
    at_ms: int


@dataclass(slots=True)
class Ledger:
    """What was sent and is not in a queue yet."""

    delayed: dict[int, Sent] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    open: dict[TransactionId, list[list[Sent]]] = field(default_factory=dict)
    ended: dict[TransactionId, Ended] = field(default_factory=dict)


class Publishing(Machine):
    """Nothing acknowledged is lost, nothing is there twice, and what waits comes when it is due or decided."""

    def __init__(self) -> None:
        super().__init__()
        self.producers = [Producer(ProducerId(f"run/r/{number}")) for number in range(2)]
        self.ledger = Ledger()
        self._bodies = itertools.count()
        self._ids = itertools.count()
        for producer in self.producers:
            self._open(producer)
        for topic in TOPIC_NAMES:
            self.publish(0, [(topic, [(f"k{number % 4}", number > 4, 0) for number in range(8)], None)], cursor=False)

    def _open(self, producer: Producer) -> None:
        opened = self.ask(self.broker.publishing.open_producer(producer.producer_id, producer.term, producer.holder))
        assert (opened.last_sequence, opened.cursor) == (producer.sequence, producer.cursor)

    @rule(which=st.integers(0, 1), drawn=_batches(500, 5_000, 70_000, 3_600_000), cursor=st.booleans())
    def publish(self, which: int, drawn: list[_Drawn], cursor: bool) -> None:
        request, sent = self._request(self.producers[which], drawn, cursor=cursor)
        self._took(self.producers[which], request, sent, self._ask(request))

    @rule(which=st.integers(0, 1), drawn=_batches(500, 70_000), budget=st.integers(0, 800))
    def publish_torn(self, which: int, drawn: list[_Drawn], budget: int) -> None:
        """Dies in the middle of it; who sends it again gets one answer, and it is there once."""
        producer = self.producers[which]
        request, sent = self._request(producer, drawn, cursor=True)
        self.ask(self.lives.tear(budget, self.broker.publishing.publish(request)))
        self.lives.kill()
        self.lives.open()
        opened = self.ask(self.broker.publishing.open_producer(producer.producer_id, producer.term, producer.holder))
        answer = self._ask(request)
        assert answer.duplicate == (opened.last_sequence == request.sequence)
        assert opened.last_sequence - producer.sequence in (0, 1)
        self._took(producer, request, sent, answer)
        self.compare_everything()

    def _request(
        self, producer: Producer, drawn: list[_Drawn], *, cursor: bool = False, part: TransactionPart | None = None
    ) -> tuple[Publish, list[list[Sent]]]:
        sequence = producer.sequence + 1
        sent = [[*self._sent(*batch)] for batch in drawn]
        given = str(sequence).encode() if cursor else None
        batches = [_batch(batch) for batch in sent]
        return Publish(producer.producer_id, producer.term, producer.holder, sequence, given, batches, part), sent

    def _sent(self, topic: str, messages: Sequence[tuple[str, bool, int]], queue: int | None) -> Iterator[Sent]:
        queue = None if queue is None else queue % self.model.topics[topic].write_queues
        for key, ordered, delay in messages:
            due_ms = self.now_ms + delay if delay else 0
            own = key if queue is None else ""  # who chooses queues cannot count on the order of keys
            yield Sent(topic, b"%d" % next(self._bodies), own, ordered, queue, due_ms)

    def _ask(self, request: Publish) -> Published:
        answer = self._answer(request)
        assert isinstance(answer, Published), answer
        return answer

    def _answer(self, request: Publish) -> object:
        async def ask() -> object:
            return await (await self.broker.publishing.publish(request))

        return self.ask(ask())

    def _took(self, producer: Producer, request: Publish, sent: list[list[Sent]], answer: Published) -> None:
        producer.sequence, producer.last, producer.answer = request.sequence, request, answer
        producer.cursor = producer.cursor if request.cursor is None else request.cursor
        if request.transaction is not None:
            assert not answer.ranges
            return
        self._take(answer.ranges, sent)

    def _take(self, ranges: Sequence[Range], sent: list[list[Sent]]) -> None:
        placed = [*_placed(ranges, sent)]
        assert sorted(each.body for each, _, _ in placed) == sorted(each.body for batch in sent for each in batch)
        self.ledger.delayed |= {handle: each for each, _, handle in placed if handle is not None}
        there = [(self._place(place), each) for each, place, handle in placed if handle is None]
        self.model.take(there, self.now_ms)

    def _place(self, place: tuple[int, int, int]) -> Place:
        topic_id, queue, offset = place
        names = {self.broker.topics.get(TopicName(name))[0].topic_id: name for name in TOPIC_NAMES}
        return names[topic_id], queue, offset

    @rule(which=st.integers(0, 1))
    def publish_again(self, which: int) -> None:
        producer = self.producers[which]
        if producer.last is None or producer.answer is None:
            return
        if producer.last.term < producer.term:
            assert isinstance(self._answer(producer.last), StaleTerm)
            return
        answer = self._ask(producer.last)
        assert answer.duplicate
        assert not answer.ranges or _plain(answer.ranges) == _plain(producer.answer.ranges)

    @rule(which=st.integers(0, 1), drawn=_batches())
    def publish_with_a_gap(self, which: int, drawn: list[_Drawn]) -> None:
        producer = self.producers[which]
        producer.sequence += 1
        request, _ = self._request(producer, drawn)
        producer.sequence -= 1
        assert isinstance(self._answer(request), SequenceGap)

    @rule(which=st.integers(0, 1), drawn=_batches())
    def take_over(self, which: int, drawn: list[_Drawn]) -> None:
        """A new holder goes on where the one before was; that one is fenced."""
        producer = self.producers[which]
        late, _ = self._request(producer, drawn)
        producer.term += 1
        self._open(producer)
        assert isinstance(self._answer(late), StaleTerm)

    @rule()
    def deliver_what_is_due(self) -> None:
        self.ask(self._deliver())

    async def _deliver(self) -> None:
        delayed = self.ledger.delayed
        due = sorted(handle for handle, sent in delayed.items() if sent.deliver_at_ms <= self.now_ms)
        due.sort(key=lambda handle: delayed[handle].deliver_at_ms)
        while (await self.broker.delays.deliverer.run_once()).count:
            pass
        self.model.take_tails(await self.tails(), [delayed.pop(handle) for handle in due], self.now_ms)
        self.ledger.settled |= {*due}

    @precondition(lambda self: self.ledger.delayed)
    @rule(data=st.data())
    def recall(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.ledger.delayed)))
        self.ask(self.broker.delays.recall(handle))
        del self.ledger.delayed[handle]
        self.ledger.settled.add(handle)

    @precondition(lambda self: self.ledger.settled)
    @rule(data=st.data())
    def recall_too_late(self, data: st.DataObject) -> None:
        with pytest.raises(HandleUnknown):
            self.ask(self.broker.delays.recall(data.draw(st.sampled_from(sorted(self.ledger.settled)))))

    @rule(which=st.integers(0, 1), drawn=_batches(), joins=st.booleans())
    def publish_in_a_transaction(self, which: int, drawn: list[_Drawn], joins: bool) -> None:
        known = self.ledger.open
        own = min(known) if joins and known else TransactionId(f"t{next(self._ids)}")
        request, sent = self._request(self.producers[which], drawn, part=TransactionPart(own, SHOP))
        self._took(self.producers[which], request, sent, self._ask(request))
        known.setdefault(own, []).extend(sent)

    @precondition(lambda self: self.ledger.open)
    @rule(outcome=st.sampled_from([Outcome.COMMITTED, Outcome.ROLLED_BACK]), data=st.data())
    def end_a_transaction(self, outcome: Outcome, data: st.DataObject) -> None:
        own = data.draw(st.sampled_from(sorted(self.ledger.open)))
        answer = self.ask(self.broker.transactions.end(own, outcome))
        sent = self.ledger.open.pop(own)
        self._take(answer.ranges, sent if outcome is Outcome.COMMITTED else [])
        self.ledger.ended[own] = Ended(outcome, answer, self.now_ms)

    @precondition(lambda self: self.ledger.ended)
    @rule(outcome=st.sampled_from([Outcome.COMMITTED, Outcome.ROLLED_BACK]), data=st.data())
    def end_it_again(self, outcome: Outcome, data: st.DataObject) -> None:
        own = data.draw(st.sampled_from(sorted(self.ledger.ended)))
        ended = self.ledger.ended[own]
        try:
            answer = self.ask(self.broker.transactions.end(own, outcome))
        except TransactionUnknown:
            assert outcome is not ended.outcome or ended.at_ms < self.now_ms - REMEMBERED_MS
        else:
            assert outcome is ended.outcome
            assert not answer.ranges or _plain(answer.ranges) == _plain(ended.answer.ranges)

    @rule()
    def ask_for_outcomes(self) -> None:
        if self.ledger.open:
            self.lives.now_ms += CHECK_MS
        self.ask(self.broker.transactions.checker.run_once())
        self._find_undecided()

    @rule()
    def nobody_tells_an_outcome(self) -> None:
        for _ in range(CHECKS + 1):
            self.ask_for_outcomes()
        assert not self.ledger.open

    def _find_undecided(self) -> None:
        known = self.broker.transactions.open()
        undecided = [own for own in self.ledger.open if own not in known]
        expected = [sent for own in undecided for batch in self.ledger.open.pop(own) for sent in batch]
        self.ledger.ended |= {own: Ended(Outcome.UNDECIDED, TransactionEnded(()), self.now_ms) for own in undecided}
        if expected:
            topic = self.model.topics.setdefault(UNDECIDED, Topic(1))
            assert topic.read_queues == 1
            tails = self.ask(self.tails([UNDECIDED]))
            own_queue = [Sent(UNDECIDED, each.body, each.key, each.ordered) for each in expected]
            self.model.take_tails(tails, own_queue, self.now_ms)


def _batch(sent: Sequence[Sent]) -> TopicBatch:
    attributes = {
        index: Attributes(deliver_at_ms=each.deliver_at_ms, ordered=each.ordered)
        for index, each in enumerate(sent)
        if each.deliver_at_ms or each.ordered
    }
    bodies, keys = [each.body for each in sent], [each.key.encode() for each in sent]
    return TopicBatch(TopicName(sent[0].topic), bodies, keys if any(keys) else (), (), attributes, sent[0].queue)


def _plain(ranges: Sequence[Range]) -> list[Range]:
    return [replace(each, indexes=(*each.indexes,), handles=(*each.handles,)) for each in ranges]


def _placed(ranges: Sequence[Range], sent: list[list[Sent]]) -> Iterator[tuple[Sent, tuple[int, int, int], int | None]]:
    """Each message with topic id, queue and offset, or with its handle."""
    batch, behind = -1, 0
    for each in ranges:
        behind = behind if each.batch == batch else 0
        indexes = each.indexes or range(behind, behind + each.count)
        batch, behind = each.batch, indexes[-1] + 1
        for number, index in enumerate(indexes):
            place = (each.topic_id, each.queue, each.first_offset + number)
            yield sent[batch][index], place, each.handles[number] if each.handles else None
