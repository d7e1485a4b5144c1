"""Whom of some users a phase of a promotion is for."""

from collections.abc import Sequence

from sqlalchemy import Connection

from examples.marketing.coupons import stock
from examples.marketing.fanout.buckets import canaries, others
from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion


def chosen(promotion: Promotion, phase: Phase, user_ids: Sequence[int]) -> Sequence[int]:
    """The canaries of them, or the others; all of them where there are no canaries."""
    canary = promotion.order.steering.canary
    if canary is None:
        return user_ids
    return (canaries if phase is Phase.CANARY else others)(promotion.id, user_ids, canary.share)


def is_eager(promotion: Promotion) -> bool:
    """Whether each user is given a coupon with the message."""
    coupon = promotion.order.coupon
    return coupon is not None and not coupon.is_lazy


def given(connection: Connection, promotion: Promotion, user_ids: Sequence[int], *, now_ms: int) -> Sequence[int]:
    """Those who have the eager coupon then: the others come too late for it, and are told nothing."""
    coupon = stock.of_promotion(connection, promotion.id)
    if coupon is None or coupon.expires_at_ms <= now_ms or not user_ids:
        return []
    holders = stock.grant(connection, coupon, user_ids)
    return [each for each in user_ids if each in holders]
