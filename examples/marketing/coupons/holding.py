"""What users have: which coupons, that they use one with an order, and get it back when the order is cancelled."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_, select, update

from examples.marketing.coupons import stock
from examples.marketing.coupons.errors import CouponNotUsable
from examples.marketing.coupons.model import OFFERED, Grant, UserCoupon, user_coupon
from examples.marketing.errors import NotFound
from examples.marketing.promotions.states import State
from examples.marketing.store import users
from examples.marketing.store.tables import coupon_grants, coupons, promotions


def of_user(connection: Connection, user_id: int, *, now_ms: int) -> Sequence[UserCoupon]:
    """Those that the user has or had, and the lazy ones that the user may claim. Raises NotFound."""
    users.check(connection, user_id)
    mine = and_(coupon_grants.c.coupon_id == coupons.c.id, coupon_grants.c.user_id == user_id)
    query = (
        select(coupons, coupon_grants.c.state)
        .join_from(coupons, promotions, promotions.c.id == coupons.c.promotion_id)
        .outerjoin(coupon_grants, mine)  # by its primary key, for each coupon there is
        .where(or_(coupon_grants.c.state.is_not(None), and_(_is_offered(now_ms), stock.is_meant(user_id))))
        .order_by(coupons.c.id)
    )
    return [_user_coupon(row, now_ms) for row in connection.execute(query).mappings()]


def use(connection: Connection, coupon_id: int, user_id: int, order_id: int, *, now_ms: int) -> None:
    """Raises CouponNotUsable."""
    usable = and_(
        coupon_grants.c.coupon_id == coupon_id,
        coupon_grants.c.user_id == user_id,
        coupon_grants.c.state == Grant.GRANTED.value,
        coupon_grants.c.expires_at_ms > now_ms,
    )
    used = update(coupon_grants).where(usable).values(state=Grant.USED.value, order_id=order_id)
    if connection.execute(used).rowcount == 0:
        reason = _why_not(connection, coupon_id, user_id)
        raise CouponNotUsable(coupon_id=coupon_id, user_id=user_id, reason=reason)


def release(connection: Connection, coupon_id: int, user_id: int, order_id: int, *, now_ms: int) -> None:
    """The user may use it again or, where it has expired meanwhile, the stock has it back. Raises NotFound."""
    coupon = stock.locked(connection, [coupon_id]).get(coupon_id)
    if coupon is None:
        raise NotFound(what="coupon", key=coupon_id)
    state = Grant.EXPIRED if coupon.expires_at_ms <= now_ms else Grant.GRANTED
    used = and_(
        coupon_grants.c.coupon_id == coupon_id,
        coupon_grants.c.user_id == user_id,
        coupon_grants.c.order_id == order_id,
    )
    changed = connection.execute(update(coupon_grants).where(used).values(state=state.value, order_id=None)).rowcount
    if state is Grant.EXPIRED:
        stock.give_back(connection, coupon_id, changed)


def _is_offered(now_ms: int) -> ColumnElement[bool]:
    return and_(
        coupons.c.is_lazy == 1,
        coupons.c.remaining > 0,
        coupons.c.expires_at_ms > now_ms,
        promotions.c.launched_at_ms.is_not(None),
        promotions.c.state != State.CANCELLED.value,
    )


def _user_coupon(row: RowMapping, now_ms: int) -> UserCoupon:
    """One that the sweep has yet to come to is shown as what it is."""
    state = row["state"] or OFFERED
    if state == Grant.GRANTED and row["expires_at_ms"] <= now_ms:
        state = Grant.EXPIRED.value
    return user_coupon(stock.coupon_of(row), state)


def _why_not(connection: Connection, coupon_id: int, user_id: int) -> str:
    held = (coupon_grants.c.coupon_id == coupon_id) & (coupon_grants.c.user_id == user_id)
    state = connection.execute(select(coupon_grants.c.state).where(held)).scalar_one_or_none()
    match state:
        case None:
            return "the user does not have it"
        case Grant.USED:
            return "it is used already"
        case _:
            return "it has expired"
