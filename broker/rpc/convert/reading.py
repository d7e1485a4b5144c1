"""Messages that are read by offset, and found by key."""

from collections.abc import Iterable, Mapping, Sequence

from broker.delivery.finding import Found
from broker.face.reading import Wanted
from broker.model import Attributes, Fetched, GroupName, LogId, Topic, TopicName
from protos.broker.v1 import broker_pb2 as pb

_FETCH_MESSAGES = 1_024
_FETCH_BYTES = 1 << 20
_LONGEST_WAIT_MS = 30_000


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
        frozenset(map(str.encode, request.tags)),
        GroupName(request.group) if request.group else None,
    )


def from_fetched(fetched: Fetched, log_id: LogId) -> pb.FetchResponse:
    return pb.FetchResponse(
        first_offset=fetched.first_offset,
        bodies=fetched.bodies,
        keys=map(bytes.decode, fetched.keys),
        tags=map(bytes.decode, collapse(fetched.tags)),
        attributes=from_attributes(fetched.attributes),
        published_at_ms=fetched.published_at_ms,
        end_offset=fetched.end_offset,
        lowest_offset=fetched.lowest_offset,
        log_id=log_id,
        topic_id=fetched.topic_id,
        next_offset=fetched.next_offset,
        offsets=fetched.offsets,
    )


def from_found(topic: Topic, found: Sequence[Found], log_id: LogId) -> pb.FindMessagesResponse:
    messages = pb.LeasedMessages(
        queues=(message.queue for message in found),
        offsets=(message.offset for message in found),
        bodies=(message.body for message in found),
        keys=(message.key.decode() for message in found),
        tags=map(bytes.decode, collapse([message.tag for message in found])),
        attributes=from_attributes({at: message.attributes for at, message in enumerate(found) if message.attributes}),
        published_at_ms=(message.published_at_ms for message in found),
    )
    return pb.FindMessagesResponse(messages=messages, log_id=log_id, topic_id=topic.topic_id)


def collapse(tags: Sequence[bytes]) -> Sequence[bytes]:
    """One for all where all are the same."""
    return tags[:1] if tags and tags.count(tags[0]) == len(tags) else tags


def from_attributes(attributes: Mapping[int, Attributes]) -> Iterable[pb.Attributes]:
    """By index of the message."""
    for index, given in attributes.items():
        yield pb.Attributes(
            index=index, properties=given.properties, deliver_at_ms=given.deliver_at_ms, ordered=given.ordered
        )
