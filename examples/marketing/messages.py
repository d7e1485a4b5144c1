"""What travels: the push message in its stable wire form, and the events of the fan-out.

The wire form is JSON; docs/marketing.md has its schema. Fields are only ever added.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shardcast import Message


class PromotionType(StrEnum):
    """The four functions."""

    PLATFORM_PROMOTION = "platform_promotion"
    PLATFORM_COUPON = "platform_coupon"
    DESIGNATED_COUPON = "designated_coupon"
    HOT_GOODS = "hot_goods"


class InformType(StrEnum):
    """The channel."""

    APP_PUSH = "app_push"
    SMS = "sms"
    MAIL = "mail"


class Phase(StrEnum):
    """Whom a fan-out is for: the canaries first where there are some, then all the others."""

    CANARY = "canary"
    REST = "rest"


PHASE = "phase"
"""The property that says so, where it is not the rest."""
TRIES = "tries"
"""The property that says how often a provider was asked for it already, where that is not never."""
RESEND = "resend"
"""The property that says which resend it belongs to, where it does."""
REASON = "reason"
"""The property of a failed message that says why."""

_PROPERTIES: Mapping[Phase, Mapping[str, str]] = {Phase.CANARY: {PHASE: Phase.CANARY.value}, Phase.REST: {}}

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


Count = Annotated[int, Field(ge=0, lt=2**63)]
Id = Annotated[int, Field(gt=-(2**62), lt=2**62)]
"""Of a user; also how many lie between two of them is a number that databases have."""


MOST_ID = 2**62 - 1
MAX_BYTES = 8 << 10
"""Of the body of a push message; a larger one is none."""
RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromotionMessage(_Wire):
    """What a promotion says. Immutable; raises pydantic's ValidationError at birth."""

    promotion_id: Annotated[int, Field(ge=1, lt=2**63)]
    promotion_type: PromotionType
    main_message: Line
    message: Text
    inform_type: InformType

    def to(self, user_id: int, phase: Phase = Phase.REST) -> Message:
        """The message for one user. Its key, "<promotion>:<user>", is the provider's idempotency key."""
        body, key = b"%b%d}" % (self.head, user_id), f"{self.promotion_id}:{user_id}"
        return Message(body, key=key, tag=self.inform_type.value, properties=_PROPERTIES[phase])

    def to_all(self, user_ids: Iterable[int], phase: Phase = Phase.REST, resend: int = 0) -> list[Message]:
        """As `to`, for millions of them: what is the same for all is looked up once. `resend` is the number of one."""
        head, promotion_id, tag = self.head, self.promotion_id, self.inform_type.value
        properties = {RESEND: str(resend)} if resend else _PROPERTIES[phase]
        return [Message(b"%b%d}" % (head, each), f"{promotion_id}:{each}", tag, properties) for each in user_ids]

    @property
    def most_bytes(self) -> int:
        """Of the body of a message to one user, at most."""
        return len(self.head) + len(f"-{MOST_ID}}}")

    @cached_property
    def head(self) -> bytes:
        """What is the same for all users is encoded once, for millions of them."""
        return self.model_dump_json().encode()[:-1] + b',"user_id":'


class PushMessage(PromotionMessage):
    """What a push consumer gets: a promotion's message and whom it is for."""

    user_id: Id


class Counted(_Wire):
    """What came of a bucket, or of a batch of messages: published in one step with how far its queue is read, so that
    it is told once however often that comes. Adds to the counts of `store/progress.py`."""

    promotion_id: Annotated[int, Field(ge=1, lt=2**63)]
    phase: Phase
    covered: Count = 0
    published: Count = 0
    delivered: Count = 0
    dropped: Count = 0
    capped: Count = 0
    failed: Count = 0


class PromotionSaved(_Wire):
    """A promotion shall be sent; says which version, to whom: users from `first_id` to `last_id`, as of that moment."""

    promotion_id: Annotated[int, Field(ge=1, lt=2**62)]
    version: int
    phase: Phase
    first_id: Id
    last_id: Id
    send_at_ms: int


class UserBucket(_Wire):
    """Users by id range, both ends included. One that is too large is split into smaller ones, see fanout/buckets."""

    promotion_id: Annotated[int, Field(ge=1, lt=2**62)]
    phase: Phase
    first_id: Id
    last_id: Id


class OrderCanceledEvent(_Wire):
    """An order is cancelled: release its coupon, return its stock, deduct its points."""

    event_id: Annotated[str, Field(pattern=r"^[^\x00]{1,32}$")]
    order_id: RowId
    user_id: RowId
    product_id: RowId
    quantity: Annotated[int, Field(ge=1, le=2**31 - 1)]
    coupon_id: RowId | None
    points: Count
