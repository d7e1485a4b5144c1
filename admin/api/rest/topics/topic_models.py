"""The bodies of topics and messages."""

import base64
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from admin.api.rest.models import Instant
from admin.domain.trigger.fields import duration_of, duration_text
from broker.client.message import ReceivedMessage
from broker.client.operating.groups import GroupState
from broker.client.operating.topics import TopicState
from broker.model import TopicPolicy


def _duration(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else duration_of(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["30s", "3d"]}),
]


def _instant(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value)
    except ValidationError as error:
        raise ValueError("give an instant with its offset from UTC, e.g. 2026-12-01T09:00:00+08:00") from error


Moment = Annotated[AwareDatetime, WrapValidator(_instant)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, PlainSerializer(lambda rate: round(rate, 2), return_type=float)]
Offset = Annotated[int, Field(ge=0, lt=1 << 63)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Queues = Annotated[int, Field(ge=1, le=1024)]


class TopicPolicyBody(BaseModel):
    """What a topic allows and keeps; null: no limit of its own."""

    readable: bool = True
    writable: bool = True
    retention: Annotated[Duration, Field(gt=timedelta(0))] | None = None
    retention_bytes: Annotated[int, Field(gt=0, lt=1 << 63)] | None = None
    messages_per_second: Positive | None = None

    @classmethod
    def of(cls, policy: TopicPolicy) -> Self:
        return cls(
            readable=policy.is_readable,
            writable=policy.is_writable,
            retention=policy.retention,
            retention_bytes=policy.retention_bytes,
            messages_per_second=policy.messages_per_second,
        )

    def policy(self) -> TopicPolicy:
        return TopicPolicy(self.readable, self.writable, self.retention, self.retention_bytes, self.messages_per_second)


class TopicForm(TopicPolicyBody):
    """A topic to be made; without `queues` it gets the broker's default."""

    model_config = ConfigDict(extra="forbid")

    name: str
    queues: Queues | None = None


class TopicPatch(TopicPolicyBody):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    write_queues: Queues | None = None
    read_queues: Queues | None = None

    @property
    def changes(self) -> Mapping[str, object]:
        """Fields of the policy that are given."""
        return self.model_dump(exclude_unset=True, exclude={"write_queues", "read_queues"})

    def over(self, policy: TopicPolicy) -> TopicPolicy:
        return TopicPolicyBody.model_validate({**TopicPolicyBody.of(policy).model_dump(), **self.changes}).policy()


class QueueBody(BaseModel):
    """Offsets from `lowest_offset` up to, not including, `end_offset` are stored."""

    queue: int
    lowest_offset: int
    end_offset: int


class TopicFacts(BaseModel):
    """`depth` counts the messages stored, `delayed` those that are not due yet; rates are of the last minute."""

    name: str
    topic_id: int
    depth: int
    delayed: int
    read_queues: int
    write_queues: int
    published_per_second: Rate


class TopicBody(TopicPolicyBody, TopicFacts):
    """A topic as it is."""

    queues: list[QueueBody]


class TopicsBody(BaseModel):
    topics: list[TopicBody]
    next_page_token: str = ""


class ReaderBody(BaseModel):
    """A group that reads the topic."""

    group: str
    mode: str | None
    members: int
    lag: int
    oldest_unread_at: Instant | None


class TopicDetailBody(TopicBody):
    groups: list[ReaderBody]


class LookForm(BaseModel):
    """Where to look: at most one of `offset`, `key` and `at`; the latest messages where there is none."""

    model_config = ConfigDict(extra="forbid")

    queue: Offset | None = None
    offset: Offset | None = None
    key: str | None = None
    at: Moment | None = None
    limit: Limit = 20

    @model_validator(mode="after")
    def _look_in_one_place(self) -> Self:
        if sum(place is not None for place in (self.offset, self.key, self.at)) > 1:
            raise ValueError("give one of offset, key and at")
        if self.offset is not None and self.queue is None:
            raise ValueError("an offset is one of a queue: give queue too")
        return self


class MessageBody(BaseModel):
    """`body` is text where it is UTF-8, else base64; `encoding` tells which."""

    message_id: str
    queue: int
    offset: int
    key: str | None
    tag: str | None
    properties: dict[str, str]
    ordered: bool
    published_at: Instant
    deliver_at: Instant | None
    encoding: Literal["text", "base64"]
    body: str


class MessagesBody(BaseModel):
    messages: list[MessageBody]


def topic_body(topic: TopicState) -> TopicBody:
    return TopicBody(
        name=topic.name,
        topic_id=topic.topic_id,
        depth=topic.messages,
        delayed=topic.delayed,
        read_queues=len(topic.queues),
        write_queues=topic.write_queues,
        published_per_second=topic.published_per_second,
        queues=[
            QueueBody(queue=number, lowest_offset=held.lowest, end_offset=held.end)
            for number, held in enumerate(topic.queues)
        ],
        **TopicPolicyBody.of(topic.policy).model_dump(),
    )


def topic_detail_body(topic: TopicState, readers: Sequence[GroupState]) -> TopicDetailBody:
    groups = [reader_body(topic.name, group) for group in readers]
    return TopicDetailBody(**topic_body(topic).model_dump(), groups=groups)


def reader_body(topic: str, group: GroupState) -> ReaderBody:
    queues = [queue for queue in group.queues if queue.topic == topic]
    unread = [queue.oldest_unread_at for queue in queues if queue.oldest_unread_at is not None]
    return ReaderBody(
        group=group.name,
        mode=group.mode,
        members=sum(topic in member.topics for member in group.members),
        lag=sum(queue.lag for queue in queues),
        oldest_unread_at=min(unread, default=None),
    )


def message_fields(message: ReceivedMessage) -> dict[str, object]:
    """What MessageBody shows of a message."""
    encoding, body = _readable(message.body)
    return {
        "message_id": message.message_id,
        "queue": message.queue,
        "offset": message.offset,
        "key": message.key,
        "tag": message.tag,
        "properties": dict(message.properties),
        "ordered": message.ordered,
        "published_at": message.published_at,
        "deliver_at": message.deliver_at,
        "encoding": encoding,
        "body": body,
    }


def messages_body(messages: Sequence[ReceivedMessage]) -> MessagesBody:
    return MessagesBody(messages=[MessageBody.model_validate(message_fields(message)) for message in messages])


def _readable(body: bytes) -> tuple[str, str]:
    try:
        return "text", body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()
