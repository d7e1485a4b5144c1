"""The messages of a transaction that nobody decided, as they go into a visible topic: in the order of their publishes,
with where they belong and whose they were."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from broker.log.attributes import decode_attributes, encode_attributes
from broker.log.payload import PublishHead
from broker.log.record import Columns, Records, columns_of, encode_records
from broker.model import Attributes, TopicId, TransactionId

TOPIC_PROPERTY = "undecided-topic"
TRANSACTION_PROPERTY = "undecided-transaction-id"

StoredPublish = tuple[PublishHead, Sequence[Records]]
"""A publish, and the records of each of its runs."""

_Place = tuple[int, int]
"""Batch and index."""
_Message = tuple[bytes, bytes, bytes, bytes]
"""Body, key, tag and attributes."""


def undecided(
    publishes: Iterable[StoredPublish], transaction_id: TransactionId, name_of: Callable[[TopicId], str], at_ms: int
) -> Records | None:
    """All of them as one run of records; None if there are none."""
    messages = [message for publish in publishes for message in _in_order(publish, transaction_id, name_of)]
    if not messages:
        return None
    bodies, keys, tags, attributes = zip(*messages, strict=True)
    return encode_records(Columns(bodies, keys, tags, dict(enumerate(attributes))), at_ms)


def _in_order(
    publish: StoredPublish, transaction_id: TransactionId, name_of: Callable[[TopicId], str]
) -> list[_Message]:
    found = dict[_Place, _Message]()
    for places, topic_id, columns in _runs(publish):
        ours = {TOPIC_PROPERTY: name_of(topic_id), TRANSACTION_PROPERTY: transaction_id}
        keys, tags = columns.keys or [b""] * len(places), columns.tags or [b""] * len(places)
        for at, place in enumerate(places):
            given = columns.attributes.get(at)
            marked = _with(decode_attributes(given) if given else Attributes(), ours)
            found[place] = columns.bodies[at], keys[at], tags[at], encode_attributes(marked)
    return [found[place] for place in sorted(found)]


def _runs(publish: StoredPublish) -> Iterator[tuple[Sequence[_Place], TopicId, Columns]]:
    batch, expected = -1, 0
    for run, records in zip(publish[0].runs, publish[1], strict=True):
        expected = expected if run.batch == batch else 0
        indexes = run.indexes or range(expected, expected + run.count)
        batch, expected = run.batch, indexes[-1] + 1
        yield [(batch, index) for index in indexes], TopicId(run.topic_id), columns_of(records)


def _with(attributes: Attributes, properties: dict[str, str]) -> Attributes:
    return Attributes({**attributes.properties, **properties}, attributes.deliver_at_ms, attributes.ordered)
