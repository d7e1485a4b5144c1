"""Messages as users see them, and batches that build them only when looked at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, repeat
from types import MappingProxyType
from typing import overload

from broker.errors import BadRequest
from broker.model import message_id

NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})

Attributes = tuple[Mapping[str, str], int, bool]
"""Properties, when to deliver in milliseconds since the epoch or 0, whether one at a time per key."""

_NO_ATTRIBUTES: Attributes = (NO_PROPERTIES, 0, False)


@dataclass(slots=True)  # not frozen: that makes building one take 1.7 us instead of 0.5, half of what a client does
class Message:
    """What is published.

    Equal keys of a topic share a queue and so keep their order. `topic` wins over the topic of the call. `deliver_at`
    is an aware datetime before which nobody gets the message; `ordered` asks for one at a time per key. Take it as
    read-only: what is changed after it was given to a producer may or may not be published.
    """

    body: bytes
    key: str | None = None
    tag: str | None = None
    properties: Mapping[str, str] = field(default_factory=lambda: NO_PROPERTIES)
    topic: str | None = None
    deliver_at: datetime | None = None
    ordered: bool = False


@dataclass(slots=True)  # not keyword-only: that makes building one take 0.7 us instead of 0.4
class ReceivedMessage(Message):
    """What is delivered: a message and where it stands. `attempt` counts deliveries, the first is 1.

    `published_at_ms` is when the broker stored it, in milliseconds since the epoch.
    """

    queue: int = 0
    offset: int = 0
    attempt: int = 1
    published_at_ms: int = 0
    log_id: str = ""
    topic_id: int = 0

    @property
    def message_id(self) -> str:
        """Unique, and the same however often the message is delivered."""
        return message_id(self.log_id, self.topic_id, self.queue, self.offset)

    @property
    def published_at(self) -> datetime:
        """When the broker stored it, aware UTC."""
        return from_ms(self.published_at_ms)


@dataclass(frozen=True, slots=True)
class Columns:
    """A fetched batch side by side, as it travelled: keys and published_at_ms have one entry per message or none,
    tags one per message, one for all, or none; attributes only those that have any, by index. `offsets` are there only
    where some were left out in between, `next_offset` only where more was looked at than what is here."""

    bodies: Sequence[bytes]
    keys: Sequence[str]
    tags: Sequence[str]
    published_at_ms: Sequence[int]
    attributes: Mapping[int, Attributes]
    offsets: Sequence[int] = ()
    next_offset: int | None = None
    queues: Sequence[int] = ()
    attempts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Batch(Sequence[ReceivedMessage]):
    """Messages of one queue that follow each other. Committing it says that all before `next_offset` are done.

    Read by lease it holds messages of any queues of the topic, and each is settled for itself: `queue` is -1 then.
    """

    topic: str
    queue: int
    generation: int
    first_offset: int
    log_id: str
    topic_id: int
    columns: Columns

    @property
    def next_offset(self) -> int:
        behind = self.columns.next_offset
        return self.first_offset + len(self) if behind is None else behind

    def __len__(self) -> int:
        return len(self.columns.bodies)

    @overload
    def __getitem__(self, index: int) -> ReceivedMessage: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ReceivedMessage]: ...

    def __getitem__(self, index: int | slice) -> ReceivedMessage | Sequence[ReceivedMessage]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])

    def __iter__(self) -> Iterator[ReceivedMessage]:
        """Column by column, which takes a third of the time of one by one."""
        columns = self.columns
        properties, deliver_at, ordered = _attribute_columns(columns.attributes, len(self))
        return map(
            ReceivedMessage,
            columns.bodies,
            _texts(columns.keys),
            _texts(columns.tags) if len(columns.tags) > 1 else repeat(tag_at(columns.tags, 0)),
            properties,
            repeat(self.topic),
            deliver_at,
            ordered,
            columns.queues or repeat(self.queue),
            columns.offsets or count(self.first_offset),
            columns.attempts or repeat(1),
            columns.published_at_ms,
            repeat(self.log_id),
            repeat(self.topic_id),
        )

    def _at(self, index: int) -> ReceivedMessage:
        columns = self.columns
        properties, deliver_at_ms, ordered = columns.attributes.get(index, _NO_ATTRIBUTES)
        return ReceivedMessage(
            body=columns.bodies[index],
            key=(columns.keys[index] or None) if columns.keys else None,
            tag=tag_at(columns.tags, index),
            properties=properties,
            topic=self.topic,
            deliver_at=from_ms(deliver_at_ms) if deliver_at_ms else None,
            ordered=ordered,
            queue=columns.queues[index] if columns.queues else self.queue,
            attempt=columns.attempts[index] if columns.attempts else 1,
            offset=columns.offsets[index] if columns.offsets else self.first_offset + index,
            published_at_ms=columns.published_at_ms[index],
            log_id=self.log_id,
            topic_id=self.topic_id,
        )


def _texts(texts: Sequence[str]) -> Iterable[str | None]:
    """None for what is empty, as for all where there are none."""
    return [text or None for text in texts] if texts else repeat(None)


def _attribute_columns(
    attributes: Mapping[int, Attributes], size: int
) -> tuple[Iterable[Mapping[str, str]], Iterable[datetime | None], Iterable[bool]]:
    """Properties, when to deliver, and whether ordered, of so many messages."""
    if not attributes:
        return repeat(NO_PROPERTIES), repeat(None), repeat(False)
    properties, times, ordered = zip(*(attributes.get(index, _NO_ATTRIBUTES) for index in range(size)), strict=True)
    return properties, [from_ms(at_ms) if at_ms else None for at_ms in times], ordered


def tag_at(tags: Sequence[str], index: int) -> str | None:
    """The tag of one message: none at all, one for all, or one each."""
    if not tags:
        return None
    return (tags[0] if len(tags) == 1 else tags[index]) or None


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime. Raises BadRequest for a naive one."""
    if instant.tzinfo is None:
        raise BadRequest(reason=f"{instant.isoformat()} has no time zone: give an aware datetime")
    return round(instant.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
