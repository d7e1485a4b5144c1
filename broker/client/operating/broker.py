"""The broker as a whole, as an operator sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed


@dataclass(frozen=True, slots=True)
class Holder:
    """Something that needs the oldest segment. Kinds: retention, group, delayed, transaction, active.

    `name` is of the group or the transaction, `topic` and `queue` are where; "" and 0 where there is none.
    """

    kind: str
    name: str
    topic: str
    queue: int


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took, `count` times, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What a broker stores and how its disk does. Positions are bytes of its log, `free_bytes` of the disk.

    `durability` is fsync, interval or os; `fsync` is of the last minute, `damaged_frames` since the start.
    """

    log_id: str
    version: str
    durability: str
    lowest_position: int
    end_position: int
    segments: int
    free_bytes: int
    is_refusing_publishes: bool
    oldest_held_by: Sequence[Holder]
    fsync: Durations
    damaged_frames: int

    @property
    def bytes(self) -> int:
        return self.end_position - self.lowest_position


class BrokerClient:
    """Describes a broker; an async context manager. Every call may raise a ShardcastError."""

    def __init__(self, endpoint: str, *, token: str = "") -> None:
        self._endpoint = endpoint
        self._metadata = bearer(token)
        self._channel = dial(endpoint)
        self._stub = BrokerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def describe(self) -> BrokerState:
        with renamed(self._endpoint):
            request = pb.DescribeBrokerRequest()
            response = await self._stub.DescribeBroker(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return BrokerState(
            response.log_id,
            response.version,
            response.durability,
            response.lowest_position,
            response.end_position,
            response.segments,
            response.free_bytes,
            response.is_refusing_publishes,
            tuple(Holder(held.kind, held.name, held.topic, held.queue) for held in response.oldest_held_by),
            Durations(response.fsync.count, response.fsync.p50_ms, response.fsync.p99_ms, response.fsync.max_ms),
            response.damaged_frames,
        )
