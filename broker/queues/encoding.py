"""A batch as it will be stored: placed on queues, checked against the limits, encoded, but without offsets yet."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import NamedTuple

from broker.errors import BadRequest, DelayTooLong, TooLarge, UnknownQueue
from broker.log.attributes import encode_attributes
from broker.log.index.keys import key_hashes
from broker.log.record import Columns, Records, encode_records
from broker.model import KEY_BYTES, PROPERTIES_BYTES, TAG_BYTES, Attributes, QueueKey, Topic, TopicBatch
from broker.queues.placement import Run, place

LONGEST_DELAY = timedelta(days=7)


class EncodedRun(NamedTuple):
    """Messages of one batch for one queue; no indexes: they follow those of the run before.

    `dues` says when each of them is delivered, in milliseconds since the epoch; none: at once. No
    `key_hashes`: they are taken from the records. `placed_over` is how many queues the messages were placed over; 0:
    somebody chose the queue.
    """

    batch: int
    key: QueueKey
    indexes: Sequence[int]
    records: Records
    dues: Sequence[int] = ()
    key_hashes: Sequence[int] | None = None
    placed_over: int = 0


def encode_batch(number: int, topic: Topic, batch: TopicBatch, first_queue: int, stored_at_ms: int) -> list[EncodedRun]:
    """The batch as runs. Raises BadRequest, DelayTooLong, TooLarge, UnknownQueue."""
    columns = _columns(batch)
    count = len(batch.bodies)
    placed_over = topic.write_queues if batch.queue is None else 0
    runs = place(count, batch.keys, placed_over, first_queue) if placed_over else _one_run(topic, batch)
    delayed = _delayed(batch.attributes, stored_at_ms)
    encoded, expected = [], 0
    for run in runs:
        for indexes, dues in _split(run.indexes, delayed):
            follows = isinstance(indexes, range) and indexes.start == expected
            picked = _pick(columns, indexes, count)
            records = encode_records(picked, stored_at_ms)
            key = QueueKey(topic.topic_id, run.queue)
            hashes = key_hashes(picked.keys, topic.topic_id)
            encoded.append(EncodedRun(number, key, () if follows else indexes, records, dues, hashes, placed_over))
            expected = indexes[-1] + 1
    return encoded


def _delayed(attributes: Mapping[int, Attributes], stored_at_ms: int) -> Mapping[int, int]:
    """When the messages that are not due yet are, by index. Raises DelayTooLong."""
    if not attributes:
        return {}
    latest_ms = stored_at_ms + LONGEST_DELAY // timedelta(milliseconds=1)
    dues = {index: given.deliver_at_ms for index, given in attributes.items() if given.deliver_at_ms > stored_at_ms}
    if dues and max(dues.values()) > latest_ms:
        raise DelayTooLong(deliver_at_ms=max(dues.values()), latest_ms=latest_ms)
    return dues


def _split(indexes: Sequence[int], delayed: Mapping[int, int]) -> Iterable[tuple[Sequence[int], Sequence[int]]]:
    """The messages that are visible at once, and the others with their due times; none of them empty."""
    later = [index for index in indexes if index in delayed] if delayed else []
    if not later:
        return [(indexes, ())]
    dues = [delayed[index] for index in later]
    if len(later) == len(indexes):
        return [(indexes, dues)]
    return [([index for index in indexes if index not in delayed], ()), (later, dues)]


def _one_run(topic: Topic, batch: TopicBatch) -> list[Run]:
    queue = batch.queue or 0
    if queue >= topic.write_queues:
        raise UnknownQueue(topic=topic.name, queue=queue, queues=topic.write_queues)
    return [Run(queue, range(len(batch.bodies)))] if batch.bodies else []


def _columns(batch: TopicBatch) -> Columns:
    """The batch's columns, checked, with one tag each."""
    count = len(batch.bodies)
    if len(batch.keys) not in (0, count):
        raise BadRequest(reason=f"{len(batch.keys)} keys for {count} messages")
    if len(batch.tags) not in (0, 1, count):
        raise BadRequest(reason=f"{len(batch.tags)} tags for {count} messages")
    if batch.attributes and max(batch.attributes) >= count:
        raise BadRequest(reason=f"attributes of message {max(batch.attributes)} in a batch of {count}")
    _check_sizes("key", batch.keys, KEY_BYTES)
    _check_sizes("tag", batch.tags, TAG_BYTES)
    tags = [batch.tags[0]] * count if len(batch.tags) == 1 else batch.tags
    attributes = {index: _encode_attributes(given) for index, given in batch.attributes.items()}
    return Columns(batch.bodies, batch.keys, tags, attributes)


def _check_sizes(what: str, column: Sequence[bytes], limit: int) -> None:
    size = max(map(len, column), default=0)
    if size > limit:
        raise TooLarge(what=what, size=size, limit=limit)


def _encode_attributes(attributes: Attributes) -> bytes:
    size = sum(len(text.encode()) for pair in attributes.properties.items() for text in pair)
    if size > PROPERTIES_BYTES:
        raise TooLarge(what="properties of a message", size=size, limit=PROPERTIES_BYTES)
    return encode_attributes(attributes)


def _pick(columns: Columns, indexes: Sequence[int], count: int) -> Columns:
    if len(indexes) == count:
        return columns
    return Columns(
        _pick_column(columns.bodies, indexes),
        _pick_column(columns.keys, indexes),
        _pick_column(columns.tags, indexes),
        _pick_attributes(columns.attributes, indexes),
    )


def _pick_column(column: Sequence[bytes], indexes: Sequence[int]) -> Sequence[bytes]:
    if not column:
        return column
    if isinstance(indexes, range):
        return column[indexes.start : indexes.stop]
    picked: tuple[bytes, ...] = itemgetter(*indexes)(column) if len(indexes) > 1 else (column[indexes[0]],)
    return picked


def _pick_attributes(attributes: Mapping[int, bytes], indexes: Sequence[int]) -> Mapping[int, bytes]:
    if not attributes:
        return attributes
    return {at: attributes[index] for at, index in enumerate(indexes) if index in attributes}
