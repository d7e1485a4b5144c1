"""The broker as a whole."""

from broker.delivery.retention.rules import Holder
from broker.face.upkeep.describing import Description
from broker.log.sync_times import Durations
from protos.broker.v1 import broker_pb2 as pb


def from_description(description: Description) -> pb.DescribeBrokerResponse:
    return pb.DescribeBrokerResponse(
        log_id=description.log_id,
        version=description.version,
        durability=description.durability.value,
        lowest_position=description.lowest_position,
        end_position=description.end_position,
        segments=description.segments,
        free_bytes=description.free_bytes,
        is_refusing_publishes=description.is_refusing_publishes,
        oldest_held_by=map(_from_holder, description.oldest_held_by),
        fsync=_from_durations(description.syncs),
        damaged_frames=description.damaged_frames,
    )


def _from_holder(holder: Holder) -> pb.Holder:
    at = holder.at
    return pb.Holder(
        kind=holder.kind.value, name=holder.name, topic=at.topic if at else "", queue=at.queue if at else 0
    )


def _from_durations(durations: Durations) -> pb.Durations:
    return pb.Durations(
        count=durations.count,
        p50_ms=durations.p50 * 1_000,
        p99_ms=durations.p99 * 1_000,
        max_ms=durations.longest * 1_000,
    )
