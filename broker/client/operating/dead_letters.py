"""A consumer group's dead letters: read, sent again, dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from broker.client import convert
from broker.client.message import Batch, ReceivedMessage, from_ms
from broker.errors import UnknownTopic
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import CALL_SECONDS, bearer, dial, renamed

TOPIC_PREFIX = "%DLQ%"
_QUEUE = 0  # dead letters have one
_CHUNK = 4_096  # messages of one look
_TOPIC, _ORIGINAL_QUEUE, _OFFSET, _MESSAGE_ID, _ATTEMPTS, _ERROR, _AT = (
    f"dead-letter-{name}" for name in ("topic", "queue", "offset", "message-id", "attempts", "error", "at")
)
_OURS = {_TOPIC, _ORIGINAL_QUEUE, _OFFSET, _MESSAGE_ID, _ATTEMPTS, _ERROR, _AT}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up: `stored` stands in the group's dead letters, the rest says where it was before,
    how often it was tried, and when and why it was given up."""

    stored: ReceivedMessage
    topic: str
    queue: int
    offset: int
    message_id: str
    attempts: int
    error: str
    at: datetime

    @property
    def properties(self) -> dict[str, str]:
        """The message's own."""
        return {name: value for name, value in self.stored.properties.items() if name not in _OURS}


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Some of a group's dead letters; all of them have offsets `lowest` up to, not including, `end`."""

    letters: Sequence[DeadLetter]
    lowest: int
    end: int


@dataclass(frozen=True, slots=True)
class Resent:
    """How many one call sent again, and the offset to go on from."""

    count: int
    next_offset: int


class DeadLetterClient:
    """Dead letters as an operator handles them; an async context manager. Every call may raise a ShardcastError."""

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

    async def read(self, group: str, offset: int, limit: int) -> DeadLetters:
        """From an offset on, the oldest first; none where the group never gave one up."""
        topic = f"{TOPIC_PREFIX}{group}"
        try:
            with renamed(self._endpoint):
                request = pb.GetTopicRequest(name=topic)
                response = await self._stub.GetTopic(request, timeout=CALL_SECONDS, metadata=self._metadata)
        except UnknownTopic:
            return DeadLetters((), 0, 0)
        held = response.topic.queues[_QUEUE]
        letters, at = list[DeadLetter](), max(offset, held.lowest_offset)
        while at < held.end_offset and len(letters) < limit:
            batch = await self._fetch(topic, at)
            letters += map(_letter, batch)
            at = batch.next_offset
        return DeadLetters(letters[:limit], held.lowest_offset, held.end_offset)

    async def _fetch(self, topic: str, offset: int) -> Batch:
        """Many at once: those that were sent again or dropped are left out."""
        request = pb.FetchRequest(topic=topic, queue=_QUEUE, offset=offset, max_messages=_CHUNK)
        with renamed(self._endpoint):
            response = await self._stub.Fetch(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return convert.batch(topic, _QUEUE, 0, response)

    async def resend(
        self, group: str, offsets: Sequence[int] = (), *, first: int = 0, before: int = 0, limit: int, rate: float = 0.0
    ) -> Resent:
        """Publishes to their own topic those named, else all from `first` up to `before` (0: the end as it is now).

        At most `limit` in this call, at most `rate` a second (0: as fast as it goes). Raises UnknownGroup.
        """
        request = pb.ResendDeadLettersRequest(
            group=group,
            offsets=offsets,
            first_offset=first,
            before_offset=before,
            max_messages=limit,
            messages_per_second=rate,
        )
        seconds = CALL_SECONDS + (limit / rate if rate else 0.0)
        with renamed(self._endpoint):
            response = await self._stub.ResendDeadLetters(request, timeout=seconds, metadata=self._metadata)
        return Resent(response.resent, response.next_offset)

    async def purge(self, group: str, offsets: Sequence[int] = ()) -> int:
        """Drops those named, else all; how many there were. Raises UnknownGroup."""
        request = pb.PurgeDeadLettersRequest(group=group, offsets=offsets)
        with renamed(self._endpoint):
            response = await self._stub.PurgeDeadLetters(request, timeout=CALL_SECONDS, metadata=self._metadata)
        return int(response.purged)


def _letter(message: ReceivedMessage) -> DeadLetter:
    kept = message.properties
    return DeadLetter(
        message,
        kept.get(_TOPIC, ""),
        int(kept.get(_ORIGINAL_QUEUE, 0)),
        int(kept.get(_OFFSET, 0)),
        kept.get(_MESSAGE_ID, ""),
        int(kept.get(_ATTEMPTS, 0)),
        kept.get(_ERROR, ""),
        from_ms(int(kept[_AT])) if _AT in kept else message.published_at,
    )
