"""What the API answers with; instants are milliseconds since the epoch where their names end in _ms."""

from collections.abc import Sequence
from datetime import date
from typing import Self

from pydantic import BaseModel, ConfigDict

from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion, PromotionOrder
from examples.marketing.promotions.states import State


class PromotionView(BaseModel):
    id: int
    version: int
    state: State
    phase: Phase
    reason: str
    launched_at_ms: int | None
    ended_at_ms: int | None
    order: PromotionOrder

    @classmethod
    def of(cls, promotion: Promotion) -> Self:
        return cls.model_validate(promotion, from_attributes=True)


class PromotionList(BaseModel):
    """`next_before` asks for the next page; None: this is the last one."""

    promotions: Sequence[PromotionView]
    next_before: int | None


class CountsView(BaseModel):
    published: int
    delivered: int
    dropped: int
    capped: int
    failed: int


class ProgressView(CountsView):
    """`audience` is None until it is known, `expected` is how many messages it leads to, at most, until then.

    `share_done` is of those, from 0 to 1; `rate` in messages a second over the last ten seconds in which somebody
    asked, or since its launch; `eta_seconds` None where nothing moves.
    """

    promotion_id: int
    state: State
    phase: Phase
    reason: str
    audience: int | None
    expected: int
    share_done: float
    rate: float
    eta_seconds: float | None
    canary: CountsView


class ResendView(BaseModel):
    """`resend` is the number of the resend: 1 for a promotion's first."""

    resend: int
    promotion: PromotionView


class FailureView(BaseModel):
    """`resend` is the resend that took it, 0: none yet."""

    model_config = ConfigDict(from_attributes=True)

    user_id: int
    reason: str
    failed_at_ms: int
    resend: int


class FailureList(BaseModel):
    """`next_after` asks for the next page; None: this is the last one."""

    failures: Sequence[FailureView]
    next_after: int | None


class UserView(BaseModel):
    id: int
    name: str
    city: str
    level: str
    age: int
    last_order_on: date | None
    spent_90d_cents: int


class CountView(BaseModel):
    count: int


class UserList(BaseModel):
    users: Sequence[UserView]


def counts_of(counts: object) -> dict[str, int]:
    """The fields of a CountsView."""
    return {name: getattr(counts, name) for name in CountsView.model_fields}
