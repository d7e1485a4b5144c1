"""The stock of coupons: one user at a time takes (claim), or a promotion gives to a thousand (grant).

Whoever changes both changes the coupon before its grants: two who wait for each other is what that rules out.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from examples.marketing.coupons.errors import CouponExpired, CouponNotOffered, CouponSoldOut, CouponTaken
from examples.marketing.coupons.model import Coupon, Grant, UserCoupon, user_coupon
from examples.marketing.errors import NotFound
from examples.marketing.messages import PromotionType
from examples.marketing.promotions.states import State
from examples.marketing.store import users
from examples.marketing.store.tables import audience_members, coupon_grants, coupons, promotions


def get(connection: Connection, coupon_id: int) -> Coupon:
    """Raises NotFound."""
    row = connection.execute(select(coupons).where(coupons.c.id == coupon_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(what="coupon", key=coupon_id)
    return coupon_of(row)


def of_promotion(connection: Connection, promotion_id: int) -> Coupon | None:
    """None: it is not about one."""
    row = connection.execute(select(coupons).where(coupons.c.promotion_id == promotion_id)).mappings().one_or_none()
    return coupon_of(row) if row is not None else None


def locked(connection: Connection, coupon_ids: Iterable[int]) -> Mapping[int, Coupon]:
    """Those that there are; nobody else changes their stock before this transaction ends."""
    query = select(coupons).where(coupons.c.id.in_(sorted(coupon_ids))).order_by(coupons.c.id).with_for_update()
    return {row["id"]: coupon_of(row) for row in connection.execute(query).mappings()}


def claim(connection: Connection, coupon_id: int, user_id: int, *, now_ms: int) -> UserCoupon:
    """Gives a lazy coupon to a user who came for it.

    Raises NotFound, CouponNotOffered, CouponExpired, CouponSoldOut or CouponTaken; the transaction is to be rolled back
    then.
    """
    coupon = get(connection, coupon_id)
    _check_offer(connection, coupon, user_id, now_ms)
    users.check(connection, user_id)
    held = (coupon_grants.c.coupon_id == coupon_id) & (coupon_grants.c.user_id == user_id)
    if connection.execute(select(coupon_grants.c.state).where(held)).first() is not None:
        raise CouponTaken(user_id=user_id, coupon_id=coupon_id)
    is_left = (coupons.c.id == coupon_id) & (coupons.c.remaining > 0)
    if connection.execute(update(coupons).where(is_left).values(remaining=coupons.c.remaining - 1)).rowcount == 0:
        raise CouponSoldOut(coupon_id=coupon_id)
    try:
        _add(connection, coupon, [user_id])
    except IntegrityError as error:  # the same user, at the same time
        raise CouponTaken(user_id=user_id, coupon_id=coupon_id) from error
    return user_coupon(coupon, Grant.GRANTED)


def grant(connection: Connection, coupon: Coupon, user_ids: Sequence[int]) -> set[int]:
    """Gives the coupon to users as far as the stock goes; those of them who hold it now, also from an earlier time.

    For about a thousand users at a time: they become parameters of one statement.
    """
    remaining = {each.id: each.remaining for each in locked(connection, [coupon.id]).values()}.get(coupon.id, 0)
    known = select(coupon_grants.c.user_id, coupon_grants.c.state).where(
        coupon_grants.c.coupon_id == coupon.id, coupon_grants.c.user_id.in_(user_ids)
    )
    states = {user_id: Grant(state) for user_id, state in connection.execute(known)}
    added = [user_id for user_id in dict.fromkeys(user_ids) if user_id not in states][:remaining]
    if added:
        _add(connection, coupon, added)
        give_back(connection, coupon.id, -len(added))
    return {user_id for user_id, state in states.items() if state is not Grant.EXPIRED} | set(added)


def give_back(connection: Connection, coupon_id: int, count: int) -> None:
    """To the stock."""
    grown = update(coupons).where(coupons.c.id == coupon_id).values(remaining=coupons.c.remaining + count)
    connection.execute(grown)


def is_meant(user_id: int) -> ColumnElement[bool]:
    """Whether a row of `promotions` is for the user: for all, or for those who were written down at its launch."""
    is_designated = promotions.c.promotion_order["promotion_type"].as_string() == PromotionType.DESIGNATED_COUPON.value
    is_member = (audience_members.c.promotion_id == promotions.c.id) & (audience_members.c.user_id == user_id)
    return or_(~is_designated, exists().where(is_member).correlate(promotions))


def _check_offer(connection: Connection, coupon: Coupon, user_id: int, now_ms: int) -> None:
    """Raises CouponNotOffered or CouponExpired."""
    is_of_it = promotions.c.id == coupon.promotion_id
    query = select(promotions.c.state, promotions.c.launched_at_ms).where(is_of_it)
    state, launched_at_ms = connection.execute(query).one()
    if not coupon.is_lazy:
        raise CouponNotOffered(coupon_id=coupon.id, reason="it is given to those whom its promotion is for")
    if state == State.CANCELLED:
        raise CouponNotOffered(coupon_id=coupon.id, reason="its promotion is cancelled")
    if launched_at_ms is None:
        raise CouponNotOffered(coupon_id=coupon.id, reason="its promotion has not begun")
    if connection.execute(select(promotions.c.id).where(is_of_it, is_meant(user_id))).first() is None:
        raise CouponNotOffered(coupon_id=coupon.id, reason=f"user {user_id} is not among those whom it is for")
    if coupon.expires_at_ms <= now_ms:
        raise CouponExpired(coupon_id=coupon.id)


def _add(connection: Connection, coupon: Coupon, user_ids: Sequence[int]) -> None:
    fixed = {"coupon_id": coupon.id, "state": Grant.GRANTED.value, "expires_at_ms": coupon.expires_at_ms}
    connection.execute(insert(coupon_grants), [{"user_id": user_id, **fixed} for user_id in user_ids])


def coupon_of(row: RowMapping) -> Coupon:
    return Coupon(**{column.name: row[column.name] for column in coupons.c} | {"is_lazy": bool(row["is_lazy"])})
