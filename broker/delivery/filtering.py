"""Reads the messages of a queue that have one of some tags: by hash before a record is read, then exactly."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeVar

from broker.delivery.reader import read_records
from broker.errors import RecordDamaged
from broker.log.commit_log import CommitLog
from broker.log.record import decode_entries, tag_hash
from broker.model import Fetched, TopicId
from broker.queues.consume_queue import ConsumeQueue

Each = TypeVar("Each")

MOST_SCANNED = 65_536  # index entries of one call: 1.3 MB, some 10 ms
_ENTRIES = 8_192  # of one read


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are wanted, how many, and how many bytes of records; the first one always fits."""

    tags: frozenset[bytes]
    max_messages: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class _Scanned:
    """Offsets and places (position and size) of what may be wanted, and up to where (not including) was looked."""

    offsets: Sequence[int]
    places: Sequence[tuple[int, int]]
    next_offset: int


def read_tagged(
    log: CommitLog, queue: ConsumeQueue, topic_id: TopicId, offset: int, wanted: Filter, *, scan: int = MOST_SCANNED
) -> Fetched:
    """The messages of the next `scan` ones that the filter wants; none is an answer too, that moves `next_offset` on.

    Ends before a damaged record that the index does not rule out; raises RecordDamaged if it would be the first.
    """
    end = queue.end
    scanned = _scan(queue, offset, min(end, offset + scan), wanted)
    found = read_records(log, scanned.places)
    whole = min(found.damaged, default=len(scanned.offsets))
    if scanned.offsets and not whole:
        position = scanned.places[0][0]
        raise RecordDamaged(offset=scanned.offsets[0], queue=queue.path, position=position, path=log.path_of(position))
    kept = [at for at, tag in enumerate(found.tags[:whole]) if tag in wanted.tags]
    return Fetched(
        topic_id,
        scanned.offsets[kept[0]] if kept else offset,
        queue.lowest,
        end,
        _pick(found.bodies, kept),
        _pick(found.keys, kept),
        _pick(found.tags, kept),
        {new: found.attributes[at] for new, at in enumerate(kept) if at in found.attributes},
        _pick(found.published_at_ms, kept),
        next_offset=scanned.offsets[whole] if whole < len(scanned.offsets) else scanned.next_offset,
        offsets=_gaps(_pick(scanned.offsets, kept)),
    )


def _scan(queue: ConsumeQueue, offset: int, end: int, wanted: Filter) -> _Scanned:
    hashes, size = frozenset(map(tag_hash, wanted.tags)), 0
    offsets, places = list[int](), list[tuple[int, int]]()
    while offset < end:
        entries = queue.read(offset, min(_ENTRIES, end - offset))
        if not entries:  # retired meanwhile
            break
        for at, (position, record_size, tag) in zip(count(offset), decode_entries(entries)):
            offset = at + 1
            if tag in hashes:
                size += record_size
                if places and (size > wanted.max_bytes or len(places) >= wanted.max_messages):
                    return _Scanned(offsets, places, at)
                offsets.append(at)
                places.append((position, record_size))
    return _Scanned(offsets, places, offset)


def without(fetched: Fetched, gone: Container[int]) -> Fetched:
    """The messages whose offsets are not among those."""
    offsets = fetched.offsets or range(fetched.first_offset, fetched.first_offset + len(fetched.bodies))
    kept = [at for at, offset in enumerate(offsets) if offset not in gone]
    left = _pick(offsets, kept)
    return replace(
        fetched,
        first_offset=left[0] if left else fetched.first_offset,
        bodies=_pick(fetched.bodies, kept),
        keys=_pick(fetched.keys, kept),
        tags=_pick(fetched.tags, kept),
        attributes={new: fetched.attributes[at] for new, at in enumerate(kept) if at in fetched.attributes},
        published_at_ms=_pick(fetched.published_at_ms, kept),
        offsets=_gaps(left),
    )


def _pick(column: Sequence[Each], indexes: Sequence[int]) -> Sequence[Each]:
    return [column[index] for index in indexes] if column else column


def _gaps(offsets: Sequence[int]) -> Sequence[int]:
    """The offsets, unless they are consecutive."""
    return offsets if offsets and offsets[-1] - offsets[0] >= len(offsets) else ()
