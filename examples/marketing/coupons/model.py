"""A coupon, and what one user has of it."""

from dataclasses import dataclass
from enum import StrEnum


class Grant(StrEnum):
    """The states of a user's coupon. One that is used comes back when its order is cancelled."""

    GRANTED = "granted"
    USED = "used"
    EXPIRED = "expired"


OFFERED = "offered"
"""Nobody's yet: the user may claim it."""


@dataclass(frozen=True, slots=True)
class Coupon:
    """`remaining` of `stock` are nobody's."""

    id: int
    promotion_id: int
    name: str
    value_cents: int
    stock: int
    remaining: int
    is_lazy: bool
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class UserCoupon:
    """As a user sees it; `state` is that of the grant, or "offered"."""

    coupon_id: int
    promotion_id: int
    name: str
    value_cents: int
    expires_at_ms: int
    state: str


def user_coupon(coupon: Coupon, state: str) -> UserCoupon:
    return UserCoupon(coupon.id, coupon.promotion_id, coupon.name, coupon.value_cents, coupon.expires_at_ms, str(state))
