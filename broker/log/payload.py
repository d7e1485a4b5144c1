"""Payloads of frames: a publish, a fence, a forgotten producer, and the changes of other rooms.

A publish begins with a head (who, which sequence, the cursor, which run went where), so that a duplicate's ranges are
read back without its records; the runs' records follow back to back, in the order of the head.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from broker.log.frame import HEADER, Frame, Kind
from broker.model import TransactionId, TransactionPart

_HEAD_SIZE = struct.Struct("<I")
_PUBLISH = struct.Struct("<BQQBIBBI")  # id's length, term, sequence, has a cursor, lengths of three more texts, runs
_RUN = struct.Struct("<IIIQIII?I")  # as in RunHead, with the number of stored indexes
_CHANGE = struct.Struct("<II")  # change's length, runs
_FENCE = struct.Struct("<BQB")  # id's length, term, holder id's length
HEAD_BYTES = _HEAD_SIZE.size
_WITHOUT_RECORDS = frozenset({Kind.FENCE, Kind.FORGET, Kind.GROUPS})


@dataclass(frozen=True, slots=True)
class RunHead:
    """Where the messages of one batch that went to one queue are; no indexes: they follow those of the run before.

    Delayed ones have no offset yet.
    """

    batch: int
    topic_id: int
    queue: int
    first_offset: int
    count: int
    size: int
    indexes: Sequence[int] = ()
    is_delayed: bool = False
    placed_over: int = 0  # queues; 0: somebody chose the queue


@dataclass(frozen=True, slots=True)
class PublishHead:
    """All of a publish but its records; none of a transaction's messages has an offset yet."""

    producer_id: str
    term: int
    sequence: int
    cursor: bytes | None
    runs: Sequence[RunHead]
    transaction: TransactionPart | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """From here on only this holder publishes under this id."""

    producer_id: str
    term: int
    holder_id: str


def encode_publish_head(head: PublishHead) -> bytes:
    """The head with its size before it; records go behind."""
    producer_id, cursor = head.producer_id.encode(), head.cursor or b""
    has_cursor = head.cursor is not None
    part = head.transaction
    transaction_id, group = (part.transaction_id.encode(), part.producer_group.encode()) if part else (b"", b"")
    sizes = len(cursor), len(transaction_id), len(group)
    fixed = _PUBLISH.pack(len(producer_id), head.term, head.sequence, has_cursor, *sizes, len(head.runs))
    body = b"".join((fixed, producer_id, cursor, transaction_id, group, *map(_encode_run, head.runs)))
    return _HEAD_SIZE.pack(len(body)) + body


def _encode_run(run: RunHead) -> bytes:
    place = (run.batch, run.topic_id, run.queue, run.first_offset, run.count, run.size)
    fixed = _RUN.pack(*place, len(run.indexes), run.is_delayed, run.placed_over)
    return fixed + struct.pack(f"<{len(run.indexes)}I", *run.indexes) if run.indexes else fixed


def publish_head_size(payload: bytes) -> int:
    """Bytes of the head, its size included: where the records begin."""
    (size,) = _HEAD_SIZE.unpack_from(payload)
    return HEAD_BYTES + int(size)


def decode_publish_head(payload: bytes) -> PublishHead:
    """The inverse of `encode_publish_head`; what follows the head may be missing."""
    id_size, term, sequence, has_cursor, *sizes, runs = _PUBLISH.unpack_from(payload, HEAD_BYTES)
    ends = [*accumulate((id_size, *sizes), initial=HEAD_BYTES + _PUBLISH.size)]
    producer_id, cursor, transaction_id, group = (payload[begin:end] for begin, end in pairwise(ends))
    return PublishHead(
        producer_id.decode(),
        term,
        sequence,
        cursor if has_cursor else None,
        (*_decode_runs(payload, ends[-1], runs),),
        TransactionPart(TransactionId(transaction_id.decode()), group.decode()) if transaction_id else None,
    )


def _decode_runs(payload: bytes, at: int, count: int) -> Iterator[RunHead]:
    for _ in range(count):
        batch, topic_id, queue, first_offset, records, size, indexes, *later = _RUN.unpack_from(payload, at)
        at += _RUN.size
        stored = struct.unpack_from(f"<{indexes}I", payload, at)
        yield RunHead(batch, topic_id, queue, first_offset, records, size, stored, *later)
        at += 4 * indexes


def encode_change_head(change: bytes, runs: Sequence[RunHead]) -> bytes:
    """A room's change, in its own words, and where the records behind it go; with its size before it."""
    body = b"".join((_CHANGE.pack(len(change), len(runs)), change, *map(_encode_run, runs)))
    return _HEAD_SIZE.pack(len(body)) + body


def decode_change_head(payload: bytes) -> tuple[bytes, Sequence[RunHead]]:
    """The inverse of `encode_change_head`; what follows the head may be missing."""
    size, runs = _CHANGE.unpack_from(payload, HEAD_BYTES)
    change_at = HEAD_BYTES + _CHANGE.size
    return payload[change_at : change_at + size], (*_decode_runs(payload, change_at + size, runs),)


def stored_runs(frame: Frame) -> Sequence[RunHead]:
    """Where the records of the frame went, whatever its kind; those of a transaction have not gone anywhere yet."""
    if frame.kind is Kind.PUBLISH:
        head = decode_publish_head(frame.payload)
        return () if head.transaction else head.runs
    if frame.kind in _WITHOUT_RECORDS:
        return ()
    return decode_change_head(frame.payload)[1]


def records_position(frame_position: int, head: bytes) -> int:
    """Where in the log the records behind a head begin."""
    return frame_position + HEADER.size + len(head)


def encode_fence(fence: Fence) -> bytes:
    producer_id, holder_id = fence.producer_id.encode(), fence.holder_id.encode()
    return _FENCE.pack(len(producer_id), fence.term, len(holder_id)) + producer_id + holder_id


def decode_fence(payload: bytes) -> Fence:
    id_size, term, holder_size = _FENCE.unpack_from(payload)
    id_at = _FENCE.size
    holder_at = id_at + id_size
    return Fence(payload[id_at:holder_at].decode(), term, payload[holder_at : holder_at + holder_size].decode())


def encode_forget(producer_id: str) -> bytes:
    return producer_id.encode()


def decode_forget(payload: bytes) -> str:
    return payload.decode()
