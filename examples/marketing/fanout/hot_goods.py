"""The hot-goods push: a cron job that makes a promotion of what sells best, and sends it by its shards."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from examples.marketing.fanout.following import Course
from examples.marketing.fanout.sharded import EVERYBODY, Sending, publish
from examples.marketing.messages import InformType, Line, Phase, PromotionType
from examples.marketing.promotions.model import FrequencyCap, Promotion, PromotionOrder, QuietHours, Steering, Way
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import launches, promotions
from examples.marketing.store.tables import products
from examples.marketing.topics import HOT_GOODS
from shardcast import Context, Depends, Skip

Rate = Annotated[int, Field(ge=1, le=1_000_000)]


class HotGoodsParams(BaseModel):
    """How many products are named, how it is sent, and for how long it is good."""

    products: Annotated[int, Field(ge=1, le=10)] = 5
    main_message: Line = "Hot today"
    inform_type: InformType = InformType.APP_PUSH
    hours: Annotated[int, Field(ge=1, le=24 * 7)] = 12
    rate: Rate | None = None
    quiet: QuietHours | None = None
    cap: FrequencyCap | None = None


def push_hot_goods(context: Context, params: HotGoodsParams, shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """The job hot-goods. Each run is a promotion of its own, made by whichever shard comes first. Raises Skip where
    nothing was sold."""
    with shop.database.writing() as connection:
        known = promotions.with_origin(connection, context.run_id)
        promotion = known or _made(connection, context, params, shop)
        promotions.claim_launch(connection, promotion.id, Phase.REST, context.run_id)
        launches.claim_run(connection, promotion.id, Phase.REST, context.run_id)
    course = Course(shop, promotion.id, context.raise_if_cancelled)
    publish(context, shop, course, EVERYBODY, Sending(HOT_GOODS))


def _made(connection: Connection, context: Context, params: HotGoodsParams, shop: Shop) -> Promotion:
    """Raises Skip."""
    names = hottest(connection, params.products)
    if not names:
        raise Skip("no product was sold yet")
    order = order_of(params, names, shop.clock())
    return promotions.of_origin(connection, context.run_id, order, now_ms=shop.now_ms)


def hottest(connection: Connection, most: int) -> Sequence[str]:
    """Names of what sold best; less where less was sold at all."""
    sold = select(products.c.name).where(products.c.sold > 0)
    return connection.execute(sold.order_by(products.c.sold.desc(), products.c.id).limit(most)).scalars().all()


def order_of(params: HotGoodsParams, names: Sequence[str], now: datetime) -> PromotionOrder:
    return PromotionOrder(
        promotion_type=PromotionType.HOT_GOODS,
        main_message=params.main_message,
        message="Everybody buys " + ", ".join(names),
        inform_type=params.inform_type,
        starts_at=now,
        ends_at=now + timedelta(hours=params.hours),
        way=Way.SHARDS,
        steering=Steering(rate=params.rate, quiet=params.quiet, cap=params.cap),
    )
