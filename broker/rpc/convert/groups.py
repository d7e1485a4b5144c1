"""Consumer groups."""

from collections.abc import Mapping

from broker.errors import BadRequest
from broker.groups.membership import Group, Ranges
from broker.model import Beat, BeatAnswer, Claim, GroupName, MemberId, OffsetCommit, TopicName, TopicQueue
from protos.broker.v1 import broker_pb2 as pb

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
        request.start == pb.START_LATEST,
    )


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


def from_group(group: Group, ranges: Ranges, expires_at_ms: Mapping[MemberId, int]) -> pb.Group:
    members = (
        pb.GroupMember(member_id=member_id, topics=sorted(member.topics), expires_at_ms=expires_at_ms[member_id])
        for member_id, member in sorted(group.members.items())
    )
    queues = (
        pb.GroupQueue(
            topic=at.topic,
            queue=at.queue,
            generation=owned.generation,
            owner=owned.owner or "",
            committed_offset=owned.offset,
            end_offset=ranges[at].end_offset,
        )
        for at, owned in sorted(group.queues.items())
    )
    return pb.Group(name=group.name, members=members, queues=queues)
