"""What the writer's thread can be asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.model import HolderId, ProducerId, TopicId
from broker.queues.encoding import EncodedRun


@dataclass(frozen=True, slots=True)
class OpenProducer:
    """Fence every other holder of the producer."""

    producer_id: ProducerId
    term: int
    holder_id: HolderId


@dataclass(frozen=True, slots=True)
class StorePublish:
    """Store this unit if it is the producer's next one."""

    producer_id: ProducerId
    term: int
    holder_id: HolderId
    sequence: int
    cursor: bytes | None
    runs: Sequence[EncodedRun]
    stored_at_ms: int


@dataclass(frozen=True, slots=True)
class GetProducer:
    """Tell where the producer stands, behind everything before."""

    producer_id: ProducerId


@dataclass(frozen=True, slots=True)
class ForgetProducer:
    """Drop one producer, or all below a name that ends in "/"."""

    name: str


@dataclass(frozen=True, slots=True)
class ForgetSilent:
    """Drop the producers that have outlived their time."""


@dataclass(frozen=True, slots=True)
class DeliverDue:
    """Move a chunk of the delayed messages that are due into their queues; a topic that is not named is gone."""

    write_queues: Mapping[TopicId, int]


@dataclass(frozen=True, slots=True)
class Recall:
    """Take one delayed message back."""

    handle: int


DelayingCommand = DeliverDue | Recall
PublishingCommand = OpenProducer | StorePublish | GetProducer | ForgetProducer | ForgetSilent
Command = PublishingCommand | DelayingCommand
