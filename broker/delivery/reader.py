"""Reads the next messages of a queue as columns: index first, then as few reads of the log as possible."""

from collections.abc import Iterable, Iterator, Sequence

from broker.log.attributes import decode_attributes
from broker.log.commit_log import CommitLog
from broker.log.record import decode_entries, decode_records
from broker.model import Fetched, TopicId
from broker.queues.consume_queue import ConsumeQueue

_GAP_BYTES = 4_096  # of other queues' records: read along rather than around
_PIECE_BYTES = 1 << 20  # of one read, so that small records among many others' do not cost a multiple in memory

_Piece = tuple[int, int, Sequence[int]]
"""Where to read, how much, and where in it this queue's records begin."""


def read_batch(
    log: CommitLog, queue: ConsumeQueue, topic_id: TopicId, offset: int, *, max_messages: int, max_bytes: int
) -> Fetched:
    """At least one message from `offset` on, which the queue holds; at most so many messages and bytes of records."""
    end = queue.end
    pieces = _pieces(_within(decode_entries(queue.read(offset, max_messages)), max_bytes))
    columns, stored_at_ms = decode_records((log.read(position, size), starts) for position, size, starts in pieces)
    attributes = {index: decode_attributes(data) for index, data in columns.attributes.items()}
    return Fetched(
        topic_id, offset, queue.lowest, end, columns.bodies, columns.keys, columns.tags, attributes, stored_at_ms
    )


def _within(entries: Iterable[tuple[int, int, int]], max_bytes: int) -> Iterator[tuple[int, int]]:
    """(position, size) of the first entry, and of those behind it that fit."""
    taken = 0
    for position, size, _ in entries:
        if taken and taken + size > max_bytes:
            return
        taken += size
        yield position, size


def _pieces(records: Iterable[tuple[int, int]]) -> Iterator[_Piece]:
    begin, end, starts = 0, 0, list[int]()
    for position, size in records:
        if starts and (position - end > _GAP_BYTES or position + size - begin > _PIECE_BYTES):
            yield begin, end - begin, starts
            starts = []
        if not starts:
            begin = position
        starts.append(position - begin)
        end = position + size
    if starts:
        yield begin, end - begin, starts
