"""The bodies of consumer groups and dead letters."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from admin.api.rest.models import Instant
from admin.api.rest.topics.topic_models import Duration, MessageBody, Offset, Positive, Rate, message_fields
from broker.client.operating.dead_letters import DeadLetter, DeadLetters
from broker.client.operating.groups import GroupState, QueueLag, Reset
from broker.model import Exponential, GroupPolicy, Steps

MILLISECOND = timedelta(milliseconds=1)

Attempts = Annotated[int, Field(ge=1, le=1000)]
MostLeased = Annotated[int, Field(ge=1, le=1 << 20)]


class StepsBody(BaseModel):
    """The wait before the second attempt, the third, ...; the last one counts on."""

    model_config = ConfigDict(extra="forbid")

    steps: Annotated[list[Duration], Field(min_length=1, max_length=64)]


class ExponentialBody(BaseModel):
    """Each wait is `multiplier` times the one before, up to `max`."""

    model_config = ConfigDict(extra="forbid")

    initial: Duration
    max: Duration
    multiplier: Annotated[float, Field(ge=1)] = 2.0


def _kind(backoff: object) -> str:
    has_steps = "steps" in backoff if isinstance(backoff, dict) else isinstance(backoff, StepsBody)
    return "steps" if has_steps else "exponential"


BackoffBody = Annotated[
    Annotated[StepsBody, Tag("steps")] | Annotated[ExponentialBody, Tag("exponential")], Discriminator(_kind)
]


class GroupPolicyBody(BaseModel):
    """How a group is redelivered to and how fast it reads; `attempts` counts the first one too, null is no limit."""

    attempts: Attempts
    backoff: BackoffBody
    messages_per_second: Positive | None
    most_leased: MostLeased

    @classmethod
    def of(cls, policy: GroupPolicy) -> Self:
        return cls(
            attempts=policy.attempts,
            backoff=_backoff_body(policy.backoff),
            messages_per_second=policy.messages_per_second or None,
            most_leased=policy.most_leased,
        )

    def policy(self) -> GroupPolicy:
        return GroupPolicy(self.attempts, _backoff(self.backoff), self.messages_per_second or 0.0, self.most_leased)


class GroupPatch(BaseModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    attempts: Attempts | None = None
    backoff: BackoffBody | None = None
    messages_per_second: Positive | None = None
    most_leased: MostLeased | None = None

    def over(self, policy: GroupPolicy) -> GroupPolicy:
        given = self.model_dump(exclude_none=True)
        if "messages_per_second" in self.model_fields_set:  # the one for which null says something
            given["messages_per_second"] = self.messages_per_second
        return GroupPolicyBody.model_validate(GroupPolicyBody.of(policy).model_dump() | given).policy()


class MemberBody(BaseModel):
    id: str
    topics: list[str]
    expires_at: Instant


class QueueLagBody(BaseModel):
    """`owner` is a member's id, or null; everything before `committed_offset` is done."""

    topic: str
    queue: int
    owner: str | None
    generation: int
    committed_offset: int
    lowest_offset: int
    end_offset: int
    lag: int
    oldest_unread_at: Instant | None


class GroupFacts(BaseModel):
    """`mode` is offset, lease, or null before anybody has read."""

    name: str
    mode: str | None
    lag: int
    leased: int
    waiting: int
    dead_letters: int
    consumed_per_second: Rate


class GroupBody(GroupPolicyBody, GroupFacts):
    """A group as it is."""

    members: list[MemberBody]
    queues: list[QueueLagBody]


class GroupsBody(BaseModel):
    groups: list[GroupBody]
    next_page_token: str = ""


class ResetForm(BaseModel):
    """`to` is earliest, latest, an instant, or an offset per queue; `expected` is the `before` of a preview."""

    model_config = ConfigDict(extra="forbid")

    topic: str
    to: Literal["earliest", "latest"] | AwareDatetime | list[Offset]
    preview: bool = False
    expected: list[Offset] | None = None
    force: bool = False

    @field_validator("to", mode="wrap")
    @classmethod
    def _say_what_fits(cls, value: object, read: ValidatorFunctionWrapHandler) -> object:
        try:
            return read(value)
        except ValidationError as error:
            fits = "earliest, latest, an instant such as 2026-12-01T09:00:00+08:00, or an offset per queue"
            raise ValueError(f"give {fits}") from error


class ResetBody(BaseModel):
    """Committed offsets by queue."""

    before: list[int]
    after: list[int]


class DeadLetterBody(MessageBody):
    """`queue` and `offset` are those among the dead letters, `original_*` where the message was before."""

    dead_at: Instant
    original_topic: str
    original_queue: int
    original_offset: int
    original_message_id: str
    attempts: int
    error: str


class DeadLettersBody(BaseModel):
    """Some of those with offsets from `lowest_offset` up to, not including, `end_offset`."""

    dead_letters: list[DeadLetterBody]
    lowest_offset: int
    end_offset: int


Chosen = Annotated[list[Offset], Field(min_length=1)]  # a selection that came out empty is a mistake, not "all"


class ResendForm(BaseModel):
    """Those named; without offsets all from `first_offset` up to `before_offset` (0: the end as it is now)."""

    model_config = ConfigDict(extra="forbid")

    offsets: Chosen | None = None
    first_offset: Offset = 0
    before_offset: Offset = 0
    messages_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class ResentBody(BaseModel):
    """A call sends some and returns within seconds: go on from `next_offset` until nothing is left."""

    resent: int
    next_offset: int


class PurgeForm(BaseModel):
    """Those named; without offsets all."""

    model_config = ConfigDict(extra="forbid")

    offsets: Chosen | None = None


class PurgedBody(BaseModel):
    purged: int


def group_body(group: GroupState) -> GroupBody:
    return GroupBody(
        name=group.name,
        mode=group.mode,
        lag=group.lag,
        leased=group.leased,
        waiting=group.waiting,
        dead_letters=group.dead_letters,
        consumed_per_second=group.consumed_per_second,
        members=[
            MemberBody(id=member.member_id, topics=list(member.topics), expires_at=member.expires_at)
            for member in group.members
        ],
        queues=[_queue_body(queue) for queue in group.queues],
        **GroupPolicyBody.of(group.policy).model_dump(),
    )


def _queue_body(queue: QueueLag) -> QueueLagBody:
    return QueueLagBody(
        topic=queue.topic,
        queue=queue.queue,
        owner=queue.owner or None,
        generation=queue.generation,
        committed_offset=queue.committed,
        lowest_offset=queue.lowest,
        end_offset=queue.end,
        lag=queue.lag,
        oldest_unread_at=queue.oldest_unread_at,
    )


def reset_body(reset: Reset) -> ResetBody:
    return ResetBody(before=list(reset.before), after=list(reset.after))


def dead_letters_body(page: DeadLetters) -> DeadLettersBody:
    return DeadLettersBody(
        dead_letters=[_dead_letter_body(letter) for letter in page.letters],
        lowest_offset=page.lowest,
        end_offset=page.end,
    )


def _dead_letter_body(letter: DeadLetter) -> DeadLetterBody:
    fields = {
        **message_fields(letter.stored),
        "properties": letter.properties,
        "dead_at": letter.at,
        "original_topic": letter.topic,
        "original_queue": letter.queue,
        "original_offset": letter.offset,
        "original_message_id": letter.message_id,
        "attempts": letter.attempts,
        "error": letter.error,
    }
    return DeadLetterBody.model_validate(fields)


def _backoff_body(backoff: Steps | Exponential) -> StepsBody | ExponentialBody:
    match backoff:
        case Steps(waits_ms):
            return StepsBody(steps=[wait * MILLISECOND for wait in waits_ms])
        case Exponential(initial_ms, max_ms, multiplier):
            return ExponentialBody(initial=initial_ms * MILLISECOND, max=max_ms * MILLISECOND, multiplier=multiplier)


def _backoff(body: StepsBody | ExponentialBody) -> Steps | Exponential:
    match body:
        case StepsBody():
            return Steps(tuple(wait // MILLISECOND for wait in body.steps))
        case ExponentialBody():
            return Exponential(body.initial // MILLISECOND, body.max // MILLISECOND, body.multiplier)
