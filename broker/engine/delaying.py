"""The engine's room of delayed messages: finds those that are due, moves copies into their queues, takes some back.

One frame copies messages and settles the originals, so that each is delivered once, whatever dies.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import structlog

from broker.delivery.delay_index import DelayIndex
from broker.delivery.delays import Stretch, spans, stretches, without
from broker.delivery.retention.rules import Hold, Holder, HolderKind
from broker.engine.commands import DelayingCommand, DeliverDue, Recall
from broker.engine.journal import Journal
from broker.errors import HandleUnknown, RecalledBefore
from broker.log.attributes import due_of
from broker.log.frame import HEADER, Frame, Kind
from broker.log.payload import decode_change_head, decode_publish_head, publish_head_size
from broker.log.record import HEADER_BYTES, Piece, Records, columns_of, decode_records, read_back, record_size
from broker.model import Delivered, QueueKey, Recalled, TopicId
from broker.queues.encoding import EncodedRun

log = structlog.get_logger(__name__)

CHUNK_MESSAGES = 5_000  # of one frame, so that publishing goes on between
CHUNK_BYTES = 8 << 20
_COMMIT_STRETCHES = 20_000  # what a killed process had not committed is taken from the log again
_MOST_REMEMBERED = 1_000  # recalls, so that who lost the answer of one learns what became of it
_GAP_BYTES = 4_096  # between stretches of one read
_MOST_RECORD_BYTES = 16 << 20  # more than any record has


class Delaying:
    """For the writer's thread."""

    def __init__(self, journal: Journal, index: DelayIndex) -> None:
        self.index = index
        self._journal = journal
        self._recalled = dict[int, None]()  # handles, the latest last

    def take(self, runs: Iterable[EncodedRun], position: int) -> None:
        """Takes the delayed ones of a publish's runs, whose records lie back to back from `position` on."""
        for run in runs:
            if run.dues:
                self.index.add(stretches(run.key, run.dues, run.records.sizes, position, run.placed_over))
            position += len(run.records.data)

    def do(self, command: DelayingCommand, now_ms: int) -> Delivered | Recalled:
        """Raises HandleUnknown, and RecalledBefore where that is still known."""
        match command:
            case DeliverDue():
                return self._deliver(now_ms)
            case Recall(handle):
                return self._recall(handle, now_ms)

    def _deliver(self, now_ms: int) -> Delivered:
        due = self.index.due(now_ms, self._journal.log.written, CHUNK_MESSAGES, CHUNK_BYTES)
        if due:
            runs = [*_merge(self._read(due))]
            change = {"delivered": [(stretch.due_ms, stretch.position) for stretch in due]}
            self._journal.append_change(Kind.DELAYS, json.dumps(change).encode(), runs, now_ms)
            self.index.remove(due)
        return Delivered(sum(stretch.count for stretch in due), self.index.next_due_ms())

    def _read(self, due: Sequence[Stretch]) -> Iterator[tuple[Stretch, Records]]:
        """By due time. What is damaged is told, and left where it is."""
        data: dict[int, bytes] = {}
        for span in spans(due, _GAP_BYTES, CHUNK_BYTES):
            begin = span[0].position
            piece = self._journal.log.read(begin, span[-1].end - begin)
            data |= {each.position: piece[each.position - begin : each.end - begin] for each in span}
        for stretch in due:
            records = read_back(data[stretch.position], stretch.count)
            if records is None:
                log.error(
                    "delayed messages are damaged",
                    action="delayed_damaged",
                    position=stretch.position,
                    messages=stretch.count,
                    topic_id=stretch.key.topic_id,
                )
            else:
                yield stretch, records

    def _recall(self, handle: int, now_ms: int) -> Recalled:
        found = self._find(handle)
        if found is None:
            raise RecalledBefore(handle=handle) if handle in self._recalled else HandleUnknown(handle=handle)
        stretch, size, before = found
        change = {"recalled": (stretch.due_ms, stretch.position), "at": handle, "size": size, "before": before}
        self._journal.append_change(Kind.DELAYS, json.dumps(change).encode(), (), now_ms)
        self._take_out(stretch, handle, size, before)
        self._remember(handle)
        return Recalled()

    def _remember(self, handle: int) -> None:
        self._recalled[handle] = None
        while len(self._recalled) > _MOST_REMEMBERED:
            del self._recalled[next(iter(self._recalled))]

    def _find(self, handle: int) -> tuple[Stretch, int, int] | None:
        """Where the message is, its size, and how many are before it; only what begins where a record does."""
        due_ms = self._due_of(handle)
        stretch = self.index.find(due_ms, handle) if due_ms else None
        if stretch is None:
            return None
        records = read_back(self._journal.log.read(stretch.position, stretch.size), stretch.count)
        if records is None:
            return None
        starts = accumulate(records.sizes, initial=stretch.position)
        places = enumerate(zip(starts, records.sizes, strict=False))
        return next(((stretch, size, before) for before, (start, size) in places if start == handle), None)

    def _due_of(self, handle: int) -> int:
        """What the bytes there say, if they can be a record's: anybody may name any position. 0: they cannot."""
        read = self._journal.log.read
        size = record_size(read(handle, HEADER_BYTES))
        if not HEADER_BYTES <= size <= _MOST_RECORD_BYTES:
            return 0
        columns, _ = decode_records([Piece(read(handle, size), [0], [size])])
        return due_of(columns.attributes.get(0, b""))

    def _take_out(self, stretch: Stretch, at: int, size: int, before: int) -> None:
        self.index.remove([stretch])
        self.index.add(without(stretch, at, size, before))

    def replay(self, frame: Frame) -> None:
        """Does again what a stored frame of this room did."""
        encoded, heads = decode_change_head(frame.payload)
        self._journal.index_again(frame, heads)
        change = json.loads(encoded)
        if "recalled" in change:
            self._remember(change["at"])
        self.apply(frame)

    def apply(self, frame: Frame) -> None:
        """What a stored publish or a frame of this room changes in the index, unless it has that already."""
        if frame.position < self.index.complete:
            return
        if frame.kind is Kind.PUBLISH:
            self._take_again(frame)
            return
        change = json.loads(decode_change_head(frame.payload)[0])
        if "recalled" in change:
            stretch = self.index.get(*change["recalled"])
            if stretch is not None:
                self._take_out(stretch, change["at"], change["size"], change["before"])
        else:
            self.index.remove(filter(None, (self.index.get(*key) for key in change["delivered"])))

    def _take_again(self, frame: Frame) -> None:
        at = publish_head_size(frame.payload)
        for run in decode_publish_head(frame.payload).runs:
            if run.is_delayed:
                records = read_back(frame.payload[at : at + run.size], run.count)
                assert records is not None  # the frame is whole
                position, key = frame.position + HEADER.size + at, QueueKey(TopicId(run.topic_id), run.queue)
                self.index.add(stretches(key, _dues(records), records.sizes, position, run.placed_over))
            at += run.size

    def commit(self) -> None:
        """Everything taken is in the log by now."""
        self.index.commit(self._journal.log.written, _COMMIT_STRETCHES)

    def hold(self) -> Hold | None:
        """What messages that are not due yet need of the log, if there are any; from any thread."""
        lowest = self.index.lowest()
        if lowest is None:
            return None
        position, topic_id = lowest
        topic = self._journal.topics.by_id(topic_id)
        return Hold(Holder(HolderKind.DELAYED, topic.name if topic else ""), position)

    def snapshot(self) -> object:
        """For the checkpoint: the index is stored up to where the log is now."""
        self.index.commit(self._journal.log.written)
        return {"complete": self.index.complete, "recalled": [*self._recalled]}

    def restore(self, snapshot: object, end: int) -> None:
        """Before the log behind `end` is replayed: reads what the index lacks of what it had then.

        The snapshot is from the checkpoint that ends there.
        """
        if isinstance(snapshot, dict):
            self._recalled = dict.fromkeys(snapshot["recalled"])
            if self.index.complete < snapshot["complete"]:
                self._apply_all(self.index.complete, end)

    def settle(self) -> None:
        """Behind the replay. A power loss may have left less of the log than the index saw."""
        if self.index.complete > self._journal.log.written:
            self.index.clear()
            self._apply_all(0, self._journal.log.written)
        for topic_id in self.index.topics():
            if self._journal.topics.by_id(topic_id) is None:  # replayed from before its deletion, which has no frame
                self.forget(topic_id)
        self.index.commit(self._journal.log.written)

    def forget(self, topic_id: TopicId) -> None:
        """A topic is deleted: nothing of it is waited for any more."""
        self.index.forget(topic_id)

    def _apply_all(self, begin: int, end: int) -> None:
        journal_log = self._journal.log
        for frame in journal_log.frames(max(begin, journal_log.start), end):
            if frame.kind in (Kind.PUBLISH, Kind.DELAYS):
                self.apply(frame)


def _merge(due: Iterable[tuple[Stretch, Records]]) -> Iterator[EncodedRun]:
    """By due time, one run per queue; new ones where messages of a topic were placed over another number of queues.

    Those of one key then meet in one queue, and must not overtake each other.
    """
    turns: dict[TopicId, tuple[int, int]] = {}
    parts: dict[tuple[QueueKey, int, int], list[Records]] = defaultdict(list)
    for stretch, records in due:
        over, turn = turns.get(stretch.key.topic_id, (stretch.placed_over, 0))
        turn += bool(over) and stretch.placed_over not in {0, over}
        turns[stretch.key.topic_id] = stretch.placed_over or over, turn
        parts[stretch.key, stretch.placed_over, turn].append(records)
    for number, ((key, placed_over, _), each) in enumerate(parts.items()):
        yield EncodedRun(number, key, (), joined(each), placed_over=placed_over)


def joined(parts: Sequence[Records]) -> Records:
    """Records back to back."""
    lanes = [lane for part in parts for lane in part.lanes or [0] * len(part.sizes)]
    return Records(
        b"".join(part.data for part in parts),
        [size for part in parts for size in part.sizes],
        [found for part in parts for found in part.tag_hashes],
        lanes if any(lanes) else (),
    )


def _dues(records: Records) -> Sequence[int]:
    attributes = columns_of(records).attributes
    return [due_of(attributes[index]) for index in range(len(records.sizes))]
