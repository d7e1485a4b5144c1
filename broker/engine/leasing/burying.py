"""Copies of messages that are given up, for the dead letters of their group."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from broker.delivery.dead_letters import Death, buried
from broker.delivery.leases.handing import Entry
from broker.engine.leasing.commands import Grave
from broker.log.attributes import decode_attributes, encode_attributes
from broker.log.commit_log import CommitLog
from broker.log.record import Columns, Piece, decode_records, encode_records
from broker.model import Attributes, QueueKey
from broker.queues.encoding import EncodedRun

CHUNK_BYTES = 8 << 20  # of records that one frame takes
_TOLD_BYTES = 512  # that a copy has more than its message, and the error: where it was, how often it was tried


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be buried, and where its record lies."""

    entry: Entry
    death: Death


def bury(log: CommitLog, grave: Grave, letters: Iterable[Letter], at_ms: int) -> list[EncodedRun]:
    """The copies as they go into the dead letters; one of a damaged record has no body, and says so."""
    bodies, keys, tags, attributes = list[bytes](), list[bytes](), list[bytes](), dict[int, bytes]()
    for index, letter in enumerate(letters):
        body, key, tag, given = _read(log, letter.entry)
        death = letter.death if body is not None else replace(letter.death, error="its record is damaged")
        attributes[index] = encode_attributes(buried(given, death))
        bodies.append(body or b"")
        keys.append(key)
        tags.append(tag)
    if not bodies:
        return []
    records = encode_records(Columns(bodies, keys, tags, attributes), at_ms)
    return [EncodedRun(0, QueueKey(grave.topic_id, 0), (), records)]


def _read(log: CommitLog, entry: Entry) -> tuple[bytes | None, bytes, bytes, Attributes]:
    """Body (None: damaged), key, tag and attributes."""
    columns, _ = decode_records([Piece(log.read(entry.position, entry.size), [0], [entry.size])])
    if not columns.bodies:
        return None, b"", b"", Attributes()
    attributes = decode_attributes(columns.attributes[0]) if columns.attributes else Attributes()
    return columns.bodies[0], (*columns.keys, b"")[0], (*columns.tags, b"")[0], attributes


def chunks(letters: Iterable[Letter]) -> Iterator[Sequence[Letter]]:
    """As many together as one frame takes."""
    chunk, size = list[Letter](), 0
    for letter in letters:
        own = letter.entry.size + len(letter.death.error.encode()) + _TOLD_BYTES
        if chunk and size + own > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(letter)
        size += own
    if chunk:
        yield chunk
