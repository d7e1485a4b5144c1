"""Consumer groups."""

from broker.errors import BadRequest
from broker.face.consuming.groups import GroupReport
from broker.groups.answers import ResetDone
from broker.groups.membership import Member, Owned
from broker.groups.resetting import Reset
from broker.model import (
    Beat,
    BeatAnswer,
    Claim,
    Edge,
    GroupName,
    MemberId,
    Mode,
    OffsetCommit,
    Since,
    Start,
    TopicName,
    TopicQueue,
)
from broker.policies import from_group_policy
from protos.broker.v1 import broker_pb2 as pb

_MODES = {None: pb.MODE_UNSPECIFIED, Mode.OFFSET: pb.MODE_OFFSET, Mode.LEASE: pb.MODE_LEASE}
_SESSION_MS = range(1_000, 300_001)


def to_beat(request: pb.BeatGroupRequest) -> Beat:
    """Raises BadRequest."""
    if request.session_timeout_ms not in _SESSION_MS:
        raise BadRequest(reason=f"a session timeout is 1,000 to 300,000 ms, not {request.session_timeout_ms}")
    if not 1 <= len(request.member_id) <= 255:
        raise BadRequest(reason="a member id has 1 to 255 characters")
    return Beat(
        GroupName(request.group),
        MemberId(request.member_id),
        frozenset(map(TopicName, request.topics)),
        request.session_timeout_ms / 1_000,
        to_start(request.start, request.start_at_ms),
    )


def to_start(start: pb.Start.ValueType, at_ms: int) -> Start:
    if start == pb.START_TIMESTAMP:
        return Since(at_ms)
    return Edge.LATEST if start == pb.START_LATEST else Edge.EARLIEST


def from_beat_answer(answer: BeatAnswer) -> pb.BeatGroupResponse:
    return pb.BeatGroupResponse(
        owned=(pb.Assignment(claim=_from_claim(owned.claim), offset=owned.offset) for owned in answer.owned),
        release=map(_from_claim, answer.release),
        beat_period_ms=int(answer.beat_seconds * 1_000),
    )


def to_claim(claim: pb.Claim) -> Claim:
    return Claim(TopicQueue(TopicName(claim.topic), claim.queue), claim.generation)


def _from_claim(claim: Claim) -> pb.Claim:
    return pb.Claim(topic=claim.at.topic, queue=claim.at.queue, generation=claim.generation)


def to_commit(commit: pb.OffsetCommit) -> OffsetCommit:
    return OffsetCommit(to_claim(commit.claim), commit.offset)


def from_commit(commit: OffsetCommit) -> pb.OffsetCommit:
    return pb.OffsetCommit(claim=_from_claim(commit.claim), offset=commit.offset)


def to_reset(request: pb.ResetOffsetsRequest) -> Reset:
    """Raises BadRequest."""
    return Reset(
        GroupName(request.group),
        TopicName(request.topic),
        _to_target(request),
        request.preview,
        tuple(request.expected.by_queue) if request.HasField("expected") else None,
        request.force,
    )


def _to_target(request: pb.ResetOffsetsRequest) -> Start | tuple[int, ...]:
    match request.WhichOneof("to"):
        case "at_ms":
            return Since(request.at_ms)
        case "offsets":
            return tuple(request.offsets.by_queue)
        case "start" if request.start in (pb.START_EARLIEST, pb.START_LATEST):
            return to_start(request.start, 0)
        case _:
            raise BadRequest(reason="a reset goes to the earliest or the latest message, an instant, or offsets")


def from_reset(done: ResetDone) -> pb.ResetOffsetsResponse:
    return pb.ResetOffsetsResponse(before=pb.Offsets(by_queue=done.before), after=pb.Offsets(by_queue=done.after))


def from_group(report: GroupReport) -> pb.Group:
    status = report.status
    group = status.group
    return pb.Group(
        name=group.name,
        members=(_from_member(*known, report) for known in sorted(group.members.items())),
        queues=(_from_queue(*known, report) for known in sorted(group.queues.items()) if known[0] in status.ranges),
        mode=_MODES[group.mode],
        policy=from_group_policy(group.policy),
        leased=status.leases.leased,
        waiting=status.leases.waiting,
        dead_letters=report.dead_letters,
        consumed_per_second=status.consumed_per_second,
    )


def _from_member(member_id: MemberId, member: Member, report: GroupReport) -> pb.GroupMember:
    return pb.GroupMember(
        member_id=member_id, topics=sorted(member.topics), expires_at_ms=report.expires_at_ms[member_id]
    )


def _from_queue(at: TopicQueue, owned: Owned, report: GroupReport) -> pb.GroupQueue:
    held = report.status.ranges[at]
    return pb.GroupQueue(
        topic=at.topic,
        queue=at.queue,
        generation=owned.generation,
        owner=owned.owner or "",
        committed_offset=owned.offset,
        end_offset=held.end_offset,
        lowest_offset=held.lowest_offset,
        oldest_unread_at_ms=report.oldest_unread_at_ms.get(at, 0),
    )
