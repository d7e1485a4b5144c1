"""Finds the messages of a topic that have a key, the latest first."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from broker.errors import RecordDamaged
from broker.log.attributes import decode_attributes
from broker.log.commit_log import CommitLog
from broker.log.index.log_index import LogIndex
from broker.log.record import Piece, decode_entries, decode_records
from broker.model import Attributes, TopicId
from broker.queues.consume_queue import ConsumeQueue
from broker.queues.finding import offset_behind, position_of

FOUND_BYTES = 8 << 20  # of bodies in one answer
MOST_FOUND = 1_024


@dataclass(frozen=True, slots=True)
class Found:
    """One message, where it stands, and when it was stored in milliseconds since the epoch."""

    queue: int
    offset: int
    body: bytes
    key: bytes
    tag: bytes
    published_at_ms: int
    attributes: Attributes | None = field(default=None)


@dataclass(frozen=True, slots=True)
class _Place:
    queue: int
    offset: int
    position: int
    size: int


class Finder:
    """For any thread."""

    def __init__(self, log: CommitLog, index: LogIndex) -> None:
        self._log = log
        self._index = index

    def find(
        self, topic_id: TopicId, queues: Sequence[ConsumeQueue], key: bytes, limit: int, gone: Container[int] = ()
    ) -> list[Found]:
        """At most `limit` messages and about 8 MiB of them, but for offsets that are gone. Raises RecordDamaged."""
        found, size = list[Found](), 0
        lowest = min((position_of(queue, queue.lowest) for queue in queues if queue.lowest < queue.end), default=None)
        for position in self._index.positions_of(topic_id, key):
            if lowest is None or position < lowest or len(found) >= min(limit, MOST_FOUND) or size >= FOUND_BYTES:
                break
            for message in self._messages_at(queues, position):
                if message.key == key and message.offset not in gone:
                    found.append(message)
                    size += len(message.body)
        return found

    def _messages_at(self, queues: Sequence[ConsumeQueue], position: int) -> Iterator[Found]:
        """The message whose record lies there, if a queue holds it: it may be delayed, in a transaction, or retired."""
        for number, queue in enumerate(queues):
            offset = offset_behind(queue, position)
            for at, size, *_ in decode_entries(queue.read(offset, 1)) if offset < queue.end else ():
                if at == position:
                    yield self._read(queue, _Place(number, offset, position, size))

    def _read(self, queue: ConsumeQueue, place: _Place) -> Found:
        piece = Piece(self._log.read(place.position, place.size), [0], [place.size])
        columns, times = decode_records([piece])
        if not columns.bodies:
            path = self._log.path_of(place.position)
            raise RecordDamaged(offset=place.offset, queue=queue.path, position=place.position, path=path)
        attributes = _attributes(columns.attributes)
        key, tag = b"".join(columns.keys), b"".join(columns.tags)
        return Found(place.queue, place.offset, columns.bodies[0], key, tag, times[0], attributes)


def _attributes(columns: Mapping[int, bytes]) -> Attributes | None:
    return decode_attributes(columns[0]) if columns else None
