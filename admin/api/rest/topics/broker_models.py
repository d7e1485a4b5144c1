"""The body of the broker as a whole."""

from dataclasses import asdict

from pydantic import BaseModel

from admin.api.rest.topics.topic_models import Rate
from broker.client.operating.broker import BrokerState


class HolderBody(BaseModel):
    """What needs the oldest segment; `kind` is retention, group, delayed, transaction or active."""

    kind: str
    name: str
    topic: str
    queue: int


class DurationsBody(BaseModel):
    """Of the last minute, in milliseconds."""

    count: int
    p50_ms: Rate
    p99_ms: Rate
    max_ms: Rate


class BrokerBody(BaseModel):
    """The broker as a whole; `bytes` are those of its log, `free_bytes` those of the disk."""

    log_id: str
    version: str
    durability: str
    bytes: int
    segments: int
    free_bytes: int
    is_refusing_publishes: bool
    damaged_frames: int
    fsync: DurationsBody
    oldest_held_by: list[HolderBody]


def broker_body(broker: BrokerState) -> BrokerBody:
    return BrokerBody(
        log_id=broker.log_id,
        version=broker.version,
        durability=broker.durability,
        bytes=broker.bytes,
        segments=broker.segments,
        free_bytes=broker.free_bytes,
        is_refusing_publishes=broker.is_refusing_publishes,
        damaged_frames=broker.damaged_frames,
        fsync=DurationsBody(**asdict(broker.fsync)),
        oldest_held_by=[HolderBody(**asdict(holder)) for holder in broker.oldest_held_by],
    )
