"""Protos of the bulk API into our values, and back."""

from collections.abc import Iterable, Mapping, Sequence

from broker.client.policies import from_topic_policy
from broker.errors import BadRequest, BrokerError
from broker.face.reading import Wanted
from broker.groups.membership import Group, Ranges
from broker.model import (
    Attributes,
    Beat,
    BeatAnswer,
    Claim,
    Fetched,
    GroupName,
    HolderId,
    LogId,
    MemberId,
    OffsetCommit,
    ProducerId,
    Publish,
    Published,
    QueueRange,
    Range,
    Topic,
    TopicBatch,
    TopicName,
    TopicQueue,
)
from broker.producers.rules import Producer
from protos.broker.v1 import broker_pb2 as pb

_FETCH_MESSAGES = 1_024
_FETCH_BYTES = 1 << 20
_LONGEST_WAIT_MS = 30_000
_SESSION_MS = range(1_000, 300_001)
_MOST_BATCHES = 1_024  # of one publish; hundreds of thousands of empty ones would hold up everybody else


def to_publish(request: pb.PublishRequest) -> Publish:
    """Raises BadRequest."""
    if len(request.batches) > _MOST_BATCHES:
        raise BadRequest(reason=f"a publish has at most {_MOST_BATCHES} batches, not {len(request.batches)}")
    return Publish(
        ProducerId(request.producer_id),
        request.term,
        HolderId(request.holder_id),
        request.sequence,
        request.cursor if request.HasField("cursor") else None,
        [*map(_to_batch, request.batches)],
    )


def _to_batch(batch: pb.TopicBatch) -> TopicBatch:
    return TopicBatch(
        TopicName(batch.topic),
        [*batch.bodies],
        [*map(str.encode, batch.keys)],
        [*map(str.encode, batch.tags)],
        {given.index: _to_attributes(given) for given in batch.attributes},
        batch.queue if batch.HasField("queue") else None,
    )


def _to_attributes(given: pb.Attributes) -> Attributes:
    return Attributes(dict(given.properties), given.deliver_at_ms, given.ordered)


def from_published(
    producer_id: ProducerId, sequence: int, answer: Published | BrokerError, log_id: LogId
) -> pb.PublishResponse:
    response = pb.PublishResponse(producer_id=producer_id, sequence=sequence)
    if isinstance(answer, BrokerError):
        fields = {name: str(value) for name, value in answer.fields.items()}
        response.refusal.CopyFrom(pb.Refusal(code=answer.code, message=str(answer), fields=fields))
    else:
        response.published.CopyFrom(
            pb.Published(
                duplicate=answer.duplicate,
                ranges=map(_from_range, answer.ranges),
                log_id=log_id,
                stored_at_ms=answer.stored_at_ms,
            )
        )
    return response


def _from_range(run: Range) -> pb.Range:
    return pb.Range(
        batch=run.batch,
        topic_id=run.topic_id,
        queue=run.queue,
        first_offset=run.first_offset,
        count=run.count,
        indexes=run.indexes,
    )


def from_producer(producer_id: str, state: Producer) -> pb.Producer:
    return pb.Producer(
        producer_id=producer_id,
        term=state.term,
        holder_id=state.holder_id,
        last_sequence=state.last_sequence,
        cursor=state.cursor,
        last_at_ms=state.last_at_ms,
    )


def to_wanted(request: pb.FetchRequest, seconds_left: float | None) -> Wanted:
    """`seconds_left` is how long the caller itself still waits for the answer."""
    wait_seconds = min(request.wait_ms, _LONGEST_WAIT_MS) / 1_000
    return Wanted(
        TopicName(request.topic),
        request.queue,
        request.offset,
        request.max_messages or _FETCH_MESSAGES,
        request.max_bytes or _FETCH_BYTES,
        wait_seconds if seconds_left is None else max(0.0, min(wait_seconds, seconds_left)),
    )


def from_fetched(fetched: Fetched, log_id: LogId) -> pb.FetchResponse:
    return pb.FetchResponse(
        first_offset=fetched.first_offset,
        bodies=fetched.bodies,
        keys=map(bytes.decode, fetched.keys),
        tags=map(bytes.decode, _collapse(fetched.tags)),
        attributes=_from_attributes(fetched.attributes),
        published_at_ms=fetched.published_at_ms,
        end_offset=fetched.end_offset,
        lowest_offset=fetched.lowest_offset,
        log_id=log_id,
        topic_id=fetched.topic_id,
    )


def _collapse(tags: Sequence[bytes]) -> Sequence[bytes]:
    """One for all where all are the same."""
    return tags[:1] if tags and tags.count(tags[0]) == len(tags) else tags


def _from_attributes(attributes: Mapping[int, Attributes]) -> Iterable[pb.Attributes]:
    for index, given in attributes.items():
        yield pb.Attributes(
            index=index, properties=given.properties, deliver_at_ms=given.deliver_at_ms, ordered=given.ordered
        )


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


def from_topic(topic: Topic, queues: Iterable[QueueRange]) -> pb.Topic:
    held = (pb.QueueRange(lowest_offset=queue.lowest_offset, end_offset=queue.end_offset) for queue in queues)
    return pb.Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        queues=held,
        write_queues=topic.write_queues,
        policy=from_topic_policy(topic.policy),
    )


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
