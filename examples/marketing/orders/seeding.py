"""Orders for demonstrations and tests: one for each of many users, written in a few statements."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, exists, func, insert, literal, select, update

from examples.marketing.coupons import stock
from examples.marketing.coupons.model import Coupon, Grant
from examples.marketing.messages import InformType, PromotionType
from examples.marketing.orders.model import POINTS_A_PIECE, OrderState
from examples.marketing.promotions.model import CouponOrder, PromotionOrder
from examples.marketing.promotions.states import Verb
from examples.marketing.store import promotions
from examples.marketing.store.tables import coupon_grants, orders, points, products

PRODUCTS, MOST_PIECES, STOCK = 10, 3, 1_000
"""Orders are of so many products, for 1 to so many pieces; so many are left of each product."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What cancelled orders lead to. What is done exactly once is equal on both sides."""

    coupons: int
    pieces: int
    points: int


@dataclass(frozen=True, slots=True)
class Seeded:
    """`orders` are ids, in the order of the users; `all` is what becomes of it when all of them are cancelled."""

    orders: Sequence[int]
    products: Sequence[int]
    coupon: Coupon
    all: Effects
    balance: int


def seed(connection: Connection, user_ids: Sequence[int], *, now_ms: int) -> Seeded:
    """An order for each user: paid with a coupon, with points for it. A hundred thousand take some seconds."""
    coupon = _coupon(connection, len(user_ids), now_ms)
    product_ids = [_product(connection, number) for number in range(PRODUCTS)]
    connection.execute(
        insert(orders), [_order(index, user_id, product_ids, coupon.id) for index, user_id in enumerate(user_ids)]
    )
    _use_coupons(connection, coupon)
    _sell(connection, coupon)
    _give_points(connection, coupon)
    mine = orders.c.coupon_id == coupon.id
    of_user = dict(connection.execute(select(orders.c.user_id, orders.c.id).where(mine)).all())
    pieces = _sum(connection, orders.c.quantity, mine)
    effects = Effects(len(user_ids), pieces, pieces * POINTS_A_PIECE)
    ids = [of_user[user_id] for user_id in user_ids]
    return Seeded(ids, product_ids, coupon, effects, _sum(connection, points.c.balance))


def effects(connection: Connection, seeded: Seeded) -> Effects:
    """What has become of it so far, where nobody else places orders meanwhile."""
    released = (coupon_grants.c.coupon_id == seeded.coupon.id) & (coupon_grants.c.state == Grant.GRANTED.value)
    return Effects(
        coupons=connection.execute(select(func.count()).where(released)).scalar_one(),
        pieces=_sum(connection, products.c.stock, products.c.id.in_(seeded.products)) - PRODUCTS * STOCK,
        points=seeded.balance - _sum(connection, points.c.balance),
    )


def _coupon(connection: Connection, count: int, now_ms: int) -> Coupon:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    order = PromotionOrder(
        promotion_type=PromotionType.PLATFORM_COUPON,
        main_message="Five off",
        message="A coupon for your next order.",
        inform_type=InformType.APP_PUSH,
        starts_at=now,
        ends_at=now + timedelta(days=30),
        coupon=CouponOrder(name="Five off", value_cents=500, stock=count, expires_at=now + timedelta(days=30)),
    )
    promotion = promotions.save(connection, order, save_id=uuid4().hex, now_ms=now_ms)
    for verb in (Verb.LAUNCH, Verb.COMPLETE):
        promotions.move(connection, promotion.id, verb, reason="", now_ms=now_ms)
    coupon = stock.of_promotion(connection, promotion.id)
    assert coupon is not None
    return coupon


def _product(connection: Connection, number: int) -> int:
    values = {"name": f"Product {number}", "stock": STOCK, "sold": 0}
    key = connection.execute(insert(products).values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _order(index: int, user_id: int, product_ids: Sequence[int], coupon_id: int) -> dict[str, object]:
    quantity = 1 + index % MOST_PIECES
    return {
        "user_id": user_id,
        "product_id": product_ids[index % len(product_ids)],
        "quantity": quantity,
        "coupon_id": coupon_id,
        "points": quantity * POINTS_A_PIECE,
        "state": OrderState.PLACED.value,
    }


def _use_coupons(connection: Connection, coupon: Coupon) -> None:
    fixed = [literal(coupon.id), orders.c.user_id, literal(Grant.USED.value), literal(coupon.expires_at_ms)]
    used = select(*fixed, orders.c.id).where(orders.c.coupon_id == coupon.id)
    names = ["coupon_id", "user_id", "state", "expires_at_ms", "order_id"]
    connection.execute(insert(coupon_grants).from_select(names, used))
    stock.give_back(connection, coupon.id, -coupon.remaining)


def _sell(connection: Connection, coupon: Coupon) -> None:
    sold = select(orders.c.product_id, func.sum(orders.c.quantity)).where(orders.c.coupon_id == coupon.id)
    for product_id, quantity in connection.execute(sold.group_by(orders.c.product_id)).all():
        connection.execute(update(products).where(products.c.id == product_id).values(sold=quantity))


def _give_points(connection: Connection, coupon: Coupon) -> None:
    mine = (orders.c.coupon_id == coupon.id) & (orders.c.user_id == points.c.user_id)
    given = select(orders.c.points).where(mine).scalar_subquery()
    has_some = exists().where(mine)
    connection.execute(update(points).where(has_some).values(balance=points.c.balance + given))
    first = select(orders.c.user_id, orders.c.points).where(orders.c.coupon_id == coupon.id)
    is_new = ~exists().where(points.c.user_id == orders.c.user_id).correlate(orders)
    connection.execute(insert(points).from_select(["user_id", "balance"], first.where(is_new)))


def _sum(connection: Connection, column: ColumnElement[int], where: ColumnElement[bool] | None = None) -> int:
    query = select(func.coalesce(func.sum(column), 0))
    return int(connection.execute(query if where is None else query.where(where)).scalar_one())
