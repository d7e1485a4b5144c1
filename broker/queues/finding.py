"""Offsets by position of the log, and so by time."""

from bisect import bisect_left

from broker.log.attributes import decode_attributes
from broker.log.commit_log import CommitLog
from broker.log.index.log_index import LogIndex
from broker.log.record import Piece, decode_entries, decode_records
from broker.queues.consume_queue import ConsumeQueue


def offset_behind(queue: ConsumeQueue, position: int) -> int:
    """The first offset that is stored at this position of the log or behind it; the queue's end if there is none."""
    lowest = queue.lowest
    return lowest + bisect_left(range(lowest, queue.end), position, key=lambda offset: position_of(queue, offset))


def position_of(queue: ConsumeQueue, offset: int) -> int:
    """Where in the log the message of this offset lies; -1: it is retired."""
    return next((position for position, *_ in decode_entries(queue.read(offset, 1))), -1)


def stored_at(log: CommitLog, queue: ConsumeQueue, offset: int) -> int:
    """When the message of this offset was stored, in milliseconds since the epoch; 0: it is retired, or damaged.

    A delayed message counts as stored when it was due: nobody could read it before.
    """
    for position, size, *_ in decode_entries(queue.read(offset, 1)):
        columns, times = decode_records([Piece(log.read(position, size), [0], [size])])
        if times:
            return max(times[0], decode_attributes(columns.attributes[0]).deliver_at_ms if columns.attributes else 0)
    return 0


def offset_at(index: LogIndex, queue: ConsumeQueue, at_ms: int) -> int:
    """The first offset stored at that instant (milliseconds since the epoch) or later; the queue's end if none is.

    A delayed message counts as stored when it was due: nobody could read it before.
    """
    return offset_behind(queue, index.position_at(at_ms))
