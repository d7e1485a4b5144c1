"""Offsets by position of the log, and so by time."""

from bisect import bisect_left

from broker.log.commit_log import CommitLog
from broker.log.index.log_index import LogIndex
from broker.log.record import HEADER_BYTES, decode_entries, stored_at_ms
from broker.queues.consume_queue import ConsumeQueue


def offset_behind(queue: ConsumeQueue, position: int) -> int:
    """The first offset that is stored at this position of the log or behind it; the queue's end if there is none."""
    lowest = queue.lowest
    return lowest + bisect_left(range(lowest, queue.end), position, key=lambda offset: position_of(queue, offset))


def position_of(queue: ConsumeQueue, offset: int) -> int:
    """Where in the log the message of this offset lies; -1: it is retired."""
    return next((position for position, *_ in decode_entries(queue.read(offset, 1))), -1)


def stored_at(log: CommitLog, queue: ConsumeQueue, offset: int) -> int:
    """When the message of this offset was stored, in milliseconds since the epoch; 0: it is retired."""
    position = position_of(queue, offset)
    header = log.read(position, HEADER_BYTES) if position >= 0 else b""
    return stored_at_ms(header) if len(header) == HEADER_BYTES else 0


def offset_at(index: LogIndex, queue: ConsumeQueue, at_ms: int) -> int:
    """The first offset stored at that instant (milliseconds since the epoch) or later; the queue's end if none is.

    A delayed message counts as stored when it was due: nobody could read it before.
    """
    return offset_behind(queue, index.position_at(at_ms))
