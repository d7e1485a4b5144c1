"""Messages to columns and back."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from broker.client.message import NO_PROPERTIES, Batch, Columns, Message, ReceivedMessage, from_ms, tag_at, to_ms
from broker.client.unfit import unfit_publish
from broker.errors import TooLarge
from protos.broker.v1 import broker_pb2 as pb

MAX_PUBLISH_BYTES = 8 << 20  # of one publish; the broker, which adds a header to each message, refuses more


def topic_batches(topic: str, messages: Sequence[Message], queue: int | None = None) -> list[pb.TopicBatch]:
    """Columns per topic, all for one queue where that is given.

    Raises TooLarge, and BadRequest for what is no message or holds what cannot be sent.
    """
    try:
        by_topic = _by_topic(topic, messages).items()
        batches = [_topic_batch(name, queue, [messages[index] for index in chosen]) for name, chosen in by_topic]
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise unfit_publish(topic, messages, queue) from error
    size = sum(batch.ByteSize() for batch in batches)
    if size > MAX_PUBLISH_BYTES:
        raise TooLarge(what="publish", size=size, limit=MAX_PUBLISH_BYTES)
    return batches


def sent_as(topic: str, messages: Sequence[Message]) -> Sequence[int]:
    """For each message its ordinal among those of `topic_batches`; empty: the same."""
    by_topic = _by_topic(topic, messages)
    if len(by_topic) == 1:
        return ()
    ordinals = [0] * len(messages)
    for ordinal, index in enumerate(chain.from_iterable(by_topic.values())):
        ordinals[index] = ordinal
    return ordinals


def _by_topic(topic: str, messages: Sequence[Message]) -> dict[str, Sequence[int]]:
    """Indexes of the messages of each topic, rising; topics in the order of their first message."""
    topics = [message.topic for message in messages]
    if not any(topics):
        return {topic: range(len(messages))} if messages else {}
    by_topic: dict[str, list[int]] = defaultdict(list)
    for index, message in enumerate(messages):
        by_topic[message.topic or topic].append(index)
    return {**by_topic}


def _topic_batch(topic: str, queue: int | None, messages: Sequence[Message]) -> pb.TopicBatch:
    return pb.TopicBatch(
        topic=topic,
        queue=queue,
        bodies=[message.body for message in messages],
        keys=_keys([message.key for message in messages]),
        tags=_tags([message.tag for message in messages]),
        attributes=_attributes(messages),
    )


def _keys(keys: Sequence[str | None]) -> list[str]:
    return [key or "" for key in keys] if any(keys) else []


def _tags(tags: Sequence[str | None]) -> list[str]:
    kinds = set(tags)
    if len(kinds) == 1:
        only = kinds.pop()
        return [only] if only else []
    return [tag or "" for tag in tags]


def _attributes(messages: Iterable[Message]) -> list[pb.Attributes]:
    return [
        pb.Attributes(
            index=index,
            properties=dict(message.properties),
            deliver_at_ms=to_ms(message.deliver_at) if message.deliver_at else 0,
            ordered=message.ordered,
        )
        for index, message in enumerate(messages)
        if message.properties or message.deliver_at or message.ordered
    ]


def batch(topic: str, queue: int, generation: int, response: pb.FetchResponse) -> Batch:
    columns = Columns(
        bodies=list(response.bodies),
        keys=list(response.keys),
        tags=list(response.tags),
        published_at_ms=list(response.published_at_ms),
        attributes={each.index: _attributes_of(each) for each in response.attributes},
        offsets=list(response.offsets),
        next_offset=response.next_offset,
    )
    return Batch(topic, queue, generation, response.first_offset, response.log_id, response.topic_id, columns)


def leased_batch(topic: str, response: pb.LeaseResponse) -> Batch:
    """Messages of any queues."""
    messages = response.messages
    columns = Columns(
        bodies=list(messages.bodies),
        keys=list(messages.keys),
        tags=list(messages.tags),
        published_at_ms=list(messages.published_at_ms),
        attributes={each.index: _attributes_of(each) for each in messages.attributes},
        offsets=list(messages.offsets),
        queues=list(messages.queues),
        attempts=list(messages.attempts),
    )
    return Batch(topic, -1, 0, 0, response.log_id, response.topic_id, columns)


def scattered(topic: str, log_id: str, topic_id: int, messages: pb.LeasedMessages) -> list[ReceivedMessage]:
    """Messages of any queues of one topic; one that was not handed out counts as the first attempt."""
    attributes = {each.index: _attributes_of(each) for each in messages.attributes}
    received: list[ReceivedMessage] = []
    for index, body in enumerate(messages.bodies):
        properties, deliver_at_ms, ordered = attributes.get(index, (NO_PROPERTIES, 0, False))
        received.append(
            ReceivedMessage(
                body=body,
                key=(messages.keys[index] or None) if messages.keys else None,
                tag=tag_at(messages.tags, index),
                properties=properties,
                topic=topic,
                deliver_at=from_ms(deliver_at_ms) if deliver_at_ms else None,
                ordered=ordered,
                queue=messages.queues[index],
                offset=messages.offsets[index],
                attempt=messages.attempts[index] if messages.attempts else 1,
                published_at_ms=messages.published_at_ms[index],
                log_id=log_id,
                topic_id=topic_id,
            )
        )
    return received


def _attributes_of(each: pb.Attributes) -> tuple[Mapping[str, str], int, bool]:
    return dict(each.properties), each.deliver_at_ms, each.ordered
