"""The checkpoint: everything that is derived from the log, at one position of it, replaced whole.

At a start only what lies behind it is read again.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from broker.log.disk import Disk, read_json
from broker.model import HolderId, ProducerId, QueueKey, QueueRange, TopicId
from broker.producers.rules import Producer
from broker.producers.table import ProducersSnapshot


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Queues and producers as the log makes them up to, not including, `position`."""

    position: int
    queues: Mapping[QueueKey, QueueRange]
    producers: ProducersSnapshot
    rooms: Mapping[str, object] = field(default_factory=dict)
    """Of the engine's other rooms, by name, each in its own words of JSON."""


NOTHING = Checkpoint(0, {}, ProducersSnapshot({}, frozenset()))


class _StoredProducer(TypedDict):
    id: str
    term: int
    holder_id: str
    last_sequence: int
    cursor: str | None
    last_at_ms: int
    positions: list[int]


def write_checkpoint(path: Path, checkpoint: Checkpoint, disk: Disk) -> None:
    """Durable when this returns; the log and the queues' files up to there must be durable before."""
    document = {
        "position": checkpoint.position,
        "queues": [[*key, held.lowest_offset, held.end_offset] for key, held in checkpoint.queues.items()],
        "producers": [_store(*known) for known in checkpoint.producers.states.items()],
        "tombstones": sorted(checkpoint.producers.tombstones),
        "rooms": checkpoint.rooms,
    }
    disk.replace(path, json.dumps(document).encode())


def read_checkpoint(path: Path) -> Checkpoint:
    """The last one written; NOTHING if there is none. Raises DirectoryUnusable."""
    if not path.exists():
        return NOTHING
    document = read_json(path)
    queues = {QueueKey(TopicId(topic), queue): QueueRange(*held) for topic, queue, *held in document["queues"]}
    states = dict(map(_restore, document["producers"]))
    producers = ProducersSnapshot(states, frozenset(document["tombstones"]))
    return Checkpoint(document["position"], queues, producers, document.get("rooms", {}))


def _store(producer_id: ProducerId, state: Producer) -> _StoredProducer:
    return {
        "id": producer_id,
        "term": state.term,
        "holder_id": state.holder_id,
        "last_sequence": state.last_sequence,
        "cursor": None if state.cursor is None else b64encode(state.cursor).decode(),
        "last_at_ms": state.last_at_ms,
        "positions": [*state.positions],
    }


def _restore(stored: _StoredProducer) -> tuple[ProducerId, Producer]:
    cursor = None if stored["cursor"] is None else b64decode(stored["cursor"])
    return ProducerId(stored["id"]), Producer(
        stored["term"],
        HolderId(stored["holder_id"]),
        stored["last_sequence"],
        cursor,
        stored["last_at_ms"],
        (*stored["positions"],),
    )
