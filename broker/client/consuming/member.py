"""A member of a consumer group: what it reads, and how it speaks to the broker."""

import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from broker.client.backoff import backoff
from broker.client.message import to_ms
from broker.client.publishing.shard_producer import PASSING
from broker.errors import BadRequest
from protos.broker.v1 import broker_pb2 as pb
from protos.channel import renamed

if TYPE_CHECKING:
    from protos.broker.v1.broker_pb2_grpc import BrokerServiceAsyncStub

log = logging.getLogger(__name__)  # a user's program decides what it shows; the daemons show it as JSON

Answer = TypeVar("Answer")

_STARTS = {"earliest": pb.START_EARLIEST, "latest": pb.START_LATEST}


@dataclass(frozen=True, slots=True)
class Reads:
    """What a member reads; `start` is where a queue begins that the group never read, at an instant if that is one."""

    group: str
    topics: Sequence[str]
    start: Literal["earliest", "latest"] | datetime
    tags: Sequence[str]
    max_messages: int

    def __post_init__(self) -> None:
        if not isinstance(self.start, datetime) and self.start not in _STARTS:
            raise BadRequest(reason=f"start is {self.start!r}; it can be earliest, latest or an aware datetime")
        _ = self.start_at_ms  # a datetime without a time zone is refused here, not by a task behind the user's back

    @property
    def start_kind(self) -> pb.Start.ValueType:
        return pb.START_TIMESTAMP if isinstance(self.start, datetime) else _STARTS[self.start]

    @property
    def start_at_ms(self) -> int:
        return to_ms(self.start) if isinstance(self.start, datetime) else 0


@dataclass(frozen=True, slots=True)
class Member:
    """One member, open; its id is random."""

    reads: Reads
    endpoint: str
    stub: "BrokerServiceAsyncStub"
    metadata: tuple[tuple[str, str], ...]
    member_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """One call. Raises a ShardcastError."""
        with renamed(self.endpoint):
            return await call()

    async def ask_patiently(self, action: str, call: Callable[[], Awaitable[Answer]]) -> tuple[Answer, int]:
        """The answer, and how often it was asked for; waits while the broker is away."""
        times = 0
        async for _ in backoff():
            times += 1
            try:
                return await self.ask(call), times
            except PASSING as error:
                extra = {"action": f"{action}_retry", "group": self.reads.group, "error": str(error)}
                log.info("the broker is away", extra=extra)
        raise AssertionError  # backoff never ends
