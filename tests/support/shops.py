"""A shop of a test's own: users without number, promotions in any state, coupons."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select

from examples.marketing.coupons import stock
from examples.marketing.coupons.model import Coupon
from examples.marketing.messages import InformType, PromotionType
from examples.marketing.personas.conditions import Condition
from examples.marketing.promotions.model import CouponOrder, PromotionOrder
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import Settings
from examples.marketing.shop import Shop, opened
from examples.marketing.store import promotions
from examples.marketing.store.tables import coupon_grants, coupons, metadata, products, users

BEGIN = datetime(2026, 12, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Clock:
    """Stands where a test puts it."""

    now: datetime = BEGIN

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def empty_shop(url: str, clock: Clock) -> Iterator[Shop]:
    with opened(Settings(database=url, limits="memory://"), clock) as shop:
        with shop.database.writing() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
        yield shop


def add_users(connection: Connection, count: int) -> range:
    """With ids from 1 on."""
    some = {"city": "Lima", "level": "gold", "age": 30, "spent_90d_cents": 0}
    connection.execute(insert(users), [{"id": n, "name": f"User {n}", **some} for n in range(1, count + 1)])
    return range(1, count + 1)


def add_product(connection: Connection, count: int) -> int:
    key = connection.execute(insert(products).values(name="Tea", stock=count, sold=0)).inserted_primary_key
    assert key is not None
    return int(key[0])


def add_coupon(
    connection: Connection,
    count: int,
    *,
    verbs: tuple[Verb, ...] = (Verb.LAUNCH,),
    is_lazy: bool = True,
    audience: Condition | None = None,
) -> Coupon:
    """Of a promotion that came so far; it expires after a day."""
    order = PromotionOrder(
        promotion_type=PromotionType.DESIGNATED_COUPON if audience else PromotionType.PLATFORM_COUPON,
        audience=audience,
        main_message="Five off",
        message="For you",
        inform_type=InformType.APP_PUSH,
        starts_at=BEGIN,
        ends_at=BEGIN + 2 * DAY,
        coupon=CouponOrder(name="Five off", value_cents=500, stock=count, expires_at=BEGIN + DAY, is_lazy=is_lazy),
    )
    saved = promotions.save(connection, order, save_id=uuid4().hex, now_ms=0)
    for verb in verbs:
        promotions.move(connection, saved.id, verb, reason="", now_ms=1)
    coupon = stock.of_promotion(connection, saved.id)
    assert coupon is not None
    return coupon


def holders(connection: Connection, coupon: Coupon, *states: str) -> set[int]:
    """Users with a grant, in one of the states or in any."""
    query = select(coupon_grants.c.user_id).where(coupon_grants.c.coupon_id == coupon.id)
    return set(connection.execute(query.where(coupon_grants.c.state.in_(states)) if states else query).scalars())


def left(connection: Connection, coupon: Coupon) -> int:
    return int(connection.execute(select(coupons.c.remaining).where(coupons.c.id == coupon.id)).scalar_one())


def count_of_grants(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(coupon_grants)).scalar_one())
