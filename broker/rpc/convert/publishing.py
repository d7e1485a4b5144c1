"""Publishes and producers."""

from broker.errors import BadRequest, BrokerError, TooMany
from broker.face.publishing import MOST_AT_ONCE
from broker.model import (
    PUBLISH_MESSAGES,
    Attributes,
    HolderId,
    LogId,
    ProducerId,
    Publish,
    Published,
    Range,
    TopicBatch,
    TopicName,
    TransactionId,
    TransactionPart,
)
from broker.producers.rules import Producer
from protos.broker.v1 import broker_pb2 as pb

_MOST_BATCHES = 1_024  # of one publish; hundreds of thousands of empty ones would hold up everybody else


def is_quick(request: pb.PublishRequest) -> bool:
    """Whether it is converted at once: each message that has attributes takes some microseconds.

    Raises BadRequest, TooMany, before anything is done for each message.
    """
    batches, messages, attributes = request.batches, 0, 0
    if len(batches) > _MOST_BATCHES:
        raise BadRequest(reason=f"a publish has at most {_MOST_BATCHES} batches, not {len(batches)}")
    for batch in batches:
        has_attributes = len(batch.attributes)
        messages += max(len(batch.bodies), len(batch.keys), len(batch.tags), has_attributes)
        attributes += has_attributes
    if messages > PUBLISH_MESSAGES:
        raise TooMany(what="messages in one publish", limit=PUBLISH_MESSAGES)
    return attributes <= MOST_AT_ONCE


def to_publish(request: pb.PublishRequest) -> Publish:
    return Publish(
        ProducerId(request.producer_id),
        request.term,
        HolderId(request.holder_id),
        request.sequence,
        request.cursor if request.HasField("cursor") else None,
        [*map(_to_batch, request.batches)],
        _to_part(request.transaction) if request.HasField("transaction") else None,
    )


def _to_part(part: pb.TransactionPart) -> TransactionPart:
    return TransactionPart(TransactionId(part.transaction_id), part.producer_group)


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
                ranges=map(from_range, answer.ranges),
                log_id=log_id,
                stored_at_ms=answer.stored_at_ms,
            )
        )
    return response


def from_range(run: Range) -> pb.Range:
    return pb.Range(
        batch=run.batch,
        topic_id=run.topic_id,
        queue=run.queue,
        first_offset=run.first_offset,
        count=run.count,
        indexes=run.indexes,
        handles=run.handles,
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
