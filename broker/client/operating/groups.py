"""Consumer groups as an operator sees and changes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Literal, Self

from broker.client.message import from_ms, to_ms
from broker.errors import BadRequest
from broker.model import GroupPolicy, Mode
from broker.policies import from_group_policy, to_group_policy
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed

_MODES = {pb.MODE_UNSPECIFIED: None, pb.MODE_OFFSET: Mode.OFFSET, pb.MODE_LEASE: Mode.LEASE}
_EDGES = {"earliest": pb.START_EARLIEST, "latest": pb.START_LATEST}

ResetTarget = Literal["earliest", "latest"] | datetime | Sequence[int]
"""An end of each queue, the first message stored at an aware instant or later, or an offset for each queue."""


@dataclass(frozen=True, slots=True)
class MemberState:
    """A reader of a group; out of it at `expires_at` if it stays silent."""

    member_id: str
    topics: Sequence[str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class QueueLag:
    """How far a group has read one queue; owner is a member id or "".

    `oldest_unread_at` is when the first message that is not done was stored; None: all are done.
    """

    topic: str
    queue: int
    owner: str
    generation: int
    committed: int
    lowest: int
    end: int
    oldest_unread_at: datetime | None

    @property
    def lag(self) -> int:
        """Messages that are stored and not done."""
        return self.end - max(self.committed, self.lowest)


@dataclass(frozen=True, slots=True)
class GroupState:
    """All of one group. `mode` is None before anybody has read; counts are of messages, rates of the last minute."""

    name: str
    mode: Mode | None
    policy: GroupPolicy
    members: Sequence[MemberState]
    queues: Sequence[QueueLag]
    leased: int
    waiting: int
    dead_letters: int
    consumed_per_second: float

    @property
    def lag(self) -> int:
        return sum(queue.lag for queue in self.queues)


@dataclass(frozen=True, slots=True)
class Reset:
    """Committed offsets of a group on one topic, by queue, before and after."""

    before: Sequence[int]
    after: Sequence[int]


class GroupClient:
    """Describes and changes consumer groups; an async context manager. Every call may raise a ShardcastError."""

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

    async def list(self) -> Sequence[str]:
        """The names of all groups, sorted."""
        with renamed(self._endpoint):
            request = pb.ListGroupsRequest()
            response = await self._stub.ListGroups(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return tuple(response.names)

    async def get(self, name: str) -> GroupState:
        """Raises UnknownGroup."""
        with renamed(self._endpoint):
            request = pb.GetGroupRequest(group=name)
            response = await self._stub.GetGroup(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return _group(response.group)

    async def alter(self, name: str, policy: GroupPolicy) -> GroupPolicy:
        """Sets the whole policy; makes the group if there is none. Raises BadName, BadRequest."""
        with renamed(self._endpoint):
            request = pb.AlterGroupRequest(group=name, policy=from_group_policy(policy))
            response = await self._stub.AlterGroup(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return to_group_policy(response.policy)

    async def delete(self, name: str) -> None:
        """Forgets the group and how far it has read. Raises GroupActive, UnknownGroup."""
        with renamed(self._endpoint):
            request = pb.DeleteGroupRequest(group=name)
            await self._stub.DeleteGroup(request, timeout=CALL_SECONDS, metadata=self._metadata)

    async def preview_reset(self, name: str, topic: str, to: ResetTarget) -> Reset:
        """What a reset would do; changes nothing. Raises BadRequest, OffsetOutOfRange, UnknownGroup, UnknownTopic."""
        return await self._reset(pb.ResetOffsetsRequest(group=name, topic=topic, preview=True), to)

    async def reset(
        self, name: str, topic: str, to: ResetTarget, *, expected: Sequence[int] | None = None, force: bool = False
    ) -> Reset:
        """Moves the group on one topic, back too.

        With `expected`, the `before` of a preview, only if the group still stands there: else raises OffsetsMoved.
        Raises GroupActive while members are active, unless forced: then they lose their queues and leases. Raises
        BadRequest, OffsetOutOfRange, UnknownGroup, UnknownTopic too.
        """
        request = pb.ResetOffsetsRequest(group=name, topic=topic, force=force)
        if expected is not None:
            request.expected.CopyFrom(pb.Offsets(by_queue=expected))
        return await self._reset(request, to)

    async def _reset(self, request: pb.ResetOffsetsRequest, to: ResetTarget) -> Reset:
        _aim(request, to)
        with renamed(self._endpoint):
            response = await self._stub.ResetOffsets(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return Reset(tuple(response.before.by_queue), tuple(response.after.by_queue))


def _aim(request: pb.ResetOffsetsRequest, to: ResetTarget) -> None:
    if isinstance(to, datetime):
        request.at_ms = to_ms(to)
    elif not isinstance(to, str):
        request.offsets.CopyFrom(pb.Offsets(by_queue=to))
    elif to in _EDGES:
        request.start = _EDGES[to]
    else:
        raise BadRequest(reason=f"a group is reset to earliest, latest, an instant or offsets, not {to!r}")


def _group(group: pb.Group) -> GroupState:
    return GroupState(
        group.name,
        _MODES[group.mode],
        to_group_policy(group.policy),
        tuple(MemberState(each.member_id, tuple(each.topics), from_ms(each.expires_at_ms)) for each in group.members),
        tuple(map(_queue, group.queues)),
        group.leased,
        group.waiting,
        group.dead_letters,
        group.consumed_per_second,
    )


def _queue(queue: pb.GroupQueue) -> QueueLag:
    return QueueLag(
        queue.topic,
        queue.queue,
        queue.owner,
        queue.generation,
        queue.committed_offset,
        queue.lowest_offset,
        queue.end_offset,
        from_ms(queue.oldest_unread_at_ms) if queue.oldest_unread_at_ms else None,
    )
