"""The sweep: coupons that were not used in time go back to their stock."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated

from sqlalchemy import Connection, and_, update

from examples.marketing.coupons import stock
from examples.marketing.coupons.model import Grant
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store.tables import coupon_grants
from shardcast import Context, Depends


def expire_coupons(context: Context, shop: Annotated[Shop, Depends(the_shop)]) -> dict[str, int]:
    """Of one shard. What counts is the time of each batch: a filter by it would differ from shard to shard."""
    expired = 0
    grants = context.scan(
        shop.database.engine,
        coupon_grants,
        strategy=shop.settings.strategy,
        where=coupon_grants.c.state == Grant.GRANTED.value,
        columns=["coupon_id", "user_id", "expires_at_ms"],
    )
    for rows in grants:
        now_ms = shop.now_ms
        due = [(row.coupon_id, row.user_id) for row in rows if row.expires_at_ms <= now_ms]
        if due:
            with shop.database.writing() as connection:
                found = expire(connection, due, now_ms=now_ms)
            context.count("expired", found)
            expired += found
    return {"expired": expired}


def expire(connection: Connection, grants: Iterable[tuple[int, int]], *, now_ms: int) -> int:
    """Of these (coupon, user) the ones that are to expire, once each; returns how many did."""
    users_of = defaultdict(list)
    for coupon_id, user_id in grants:
        users_of[coupon_id].append(user_id)
    stock.locked(connection, users_of)
    expired = {coupon_id: _expire(connection, coupon_id, users, now_ms) for coupon_id, users in users_of.items()}
    for coupon_id, count in expired.items():
        stock.give_back(connection, coupon_id, count)
    return sum(expired.values())


def _expire(connection: Connection, coupon_id: int, user_ids: list[int], now_ms: int) -> int:
    due = and_(
        coupon_grants.c.coupon_id == coupon_id,
        coupon_grants.c.user_id.in_(user_ids),
        coupon_grants.c.state == Grant.GRANTED.value,
        coupon_grants.c.expires_at_ms <= now_ms,
    )
    return connection.execute(update(coupon_grants).where(due).values(state=Grant.EXPIRED.value)).rowcount
