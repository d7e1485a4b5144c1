"""Reads the next messages of a queue as columns: index first, then as few reads of the log as possible."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.errors import RecordDamaged
from broker.log.attributes import decode_attributes
from broker.log.commit_log import CommitLog
from broker.log.record import Piece, decode_entries, decode_records
from broker.model import Attributes, Fetched, TopicId
from broker.queues.consume_queue import ConsumeQueue

_GAP_BYTES = 4_096  # of other queues' records: read along rather than around
_PIECE_BYTES = 1 << 20  # of one read, so that small records among many others' do not cost a multiple in memory

_Place = tuple[int, int]
"""Position and size of a record."""


@dataclass(frozen=True, slots=True)
class Records:
    """Messages as columns; keys and tags are none at all or one each, the `damaged`, by index, are empty."""

    bodies: Sequence[bytes]
    keys: Sequence[bytes]
    tags: Sequence[bytes]
    attributes: Mapping[int, Attributes]
    published_at_ms: Sequence[int]
    damaged: Sequence[int]


def read_batch(
    log: CommitLog, queue: ConsumeQueue, topic_id: TopicId, offset: int, *, max_messages: int, max_bytes: int
) -> Fetched:
    """At least one message from `offset` on, which the queue holds; at most so many messages and bytes of records.

    Ends before a damaged record; raises RecordDamaged if the first one is. Empty if the offset was retired meanwhile.
    """
    end = queue.end
    places = _within(decode_entries(queue.read(offset, max_messages)), max_bytes)
    columns, stored_at_ms = decode_records(_read(log, run) for run in _runs(places))
    if not columns.bodies and offset >= queue.lowest:
        position = places[0][0] if places else 0
        raise RecordDamaged(offset=offset, queue=queue.path, position=position, path=log.path_of(position))
    attributes = {index: decode_attributes(data) for index, data in columns.attributes.items()}
    return Fetched(
        topic_id,
        offset,
        queue.lowest,
        end,
        columns.bodies,
        columns.keys,
        columns.tags,
        attributes,
        stored_at_ms,
        next_offset=offset + len(columns.bodies),
    )


def read_records(log: CommitLog, places: Sequence[_Place]) -> Records:
    """The records at these places; those that are damaged are told."""
    bodies, keys, tags, times = list[bytes](), list[bytes](), list[bytes](), list[int]()
    attributes, damaged = dict[int, Attributes](), list[int]()
    for run in _runs(places):
        left = run
        while left:
            columns, stored_at_ms = decode_records([_read(log, left)])
            count = len(columns.bodies)
            first = len(bodies)
            attributes |= {first + at: decode_attributes(data) for at, data in columns.attributes.items()}
            bodies += columns.bodies
            keys += columns.keys or [b""] * count
            tags += columns.tags or [b""] * count
            times += stored_at_ms
            if count < len(left):
                damaged.append(len(bodies))
                for column in (bodies, keys, tags):
                    column.append(b"")
                times.append(0)
            left = left[count + 1 :]
    return Records(bodies, keys if any(keys) else (), tags if any(tags) else (), attributes, times, damaged)


def _within(entries: Iterable[tuple[int, int, int]], max_bytes: int) -> list[_Place]:
    """The first entry, and those behind it that fit."""
    taken, places = 0, list[_Place]()
    for position, size, _ in entries:
        if taken and taken + size > max_bytes:
            break
        taken += size
        places.append((position, size))
    return places


def _runs(places: Iterable[_Place]) -> Iterator[Sequence[_Place]]:
    """Records that one read takes."""
    run, begin, end = list[_Place](), 0, 0
    for position, size in places:
        if run and not (0 <= position - end <= _GAP_BYTES and position + size - begin <= _PIECE_BYTES):
            yield run
            run = []
        begin = begin if run else position
        run.append((position, size))
        end = position + size
    if run:
        yield run


def _read(log: CommitLog, run: Sequence[_Place]) -> Piece:
    begin, (last, size) = run[0][0], run[-1]
    positions, sizes = zip(*run, strict=True)
    return Piece(log.read(begin, last + size - begin), [position - begin for position in positions], sizes)
