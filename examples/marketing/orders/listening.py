"""What becomes of a cancelled order: three groups, each of which sees every event.

An event that comes again finds the group's row in the inbox, written in the transaction of the effect itself. One that
fails is tried again, and goes to the dead letters of its group alone.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import ValidationError
from sqlalchemy import Connection, update

from examples.marketing.coupons import holding
from examples.marketing.errors import NotFound
from examples.marketing.messages import OrderCanceledEvent
from examples.marketing.orders.errors import PointsSpent
from examples.marketing.settings import faults
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store.inbox import is_first
from examples.marketing.store.tables import points, products
from shardcast import Depends, Fail, Message

COUPON_RELEASE = "coupon_release"
STOCK_RETURN = "stock_return"
POINTS_DEDUCTION = "points_deduction"


def release_coupon(message: Message, shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """The user may use the coupon again."""

    def release(connection: Connection, event: OrderCanceledEvent) -> None:
        if event.coupon_id is not None:
            holding.release(connection, event.coupon_id, event.user_id, event.order_id, now_ms=shop.now_ms)

    _once(shop, COUPON_RELEASE, message, release)


def return_stock(message: Message, shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """The product can be sold again. Raises NotFound."""
    _once(shop, STOCK_RETURN, message, _return)


def deduct_points(message: Message, shop: Annotated[Shop, Depends(the_shop)]) -> None:
    """The user loses what the order gave. Raises PointsSpent."""
    _once(shop, POINTS_DEDUCTION, message, _deduct)


LISTENERS: Mapping[str, Callable[[Message, Shop], None]] = {
    COUPON_RELEASE: release_coupon,
    STOCK_RETURN: return_stock,
    POINTS_DEDUCTION: deduct_points,
}
"""By group."""


def _return(connection: Connection, event: OrderCanceledEvent) -> None:
    values = {"stock": products.c.stock + event.quantity, "sold": products.c.sold - event.quantity}
    if connection.execute(update(products).where(products.c.id == event.product_id).values(values)).rowcount == 0:
        raise NotFound(what="product", key=event.product_id)


def _deduct(connection: Connection, event: OrderCanceledEvent) -> None:
    enough = (points.c.user_id == event.user_id) & (points.c.balance >= event.points)
    deducted = update(points).where(enough).values(balance=points.c.balance - event.points)
    if event.points and connection.execute(deducted).rowcount == 0:
        raise PointsSpent(user_id=event.user_id, order_id=event.order_id, points=event.points)


def _once(shop: Shop, group: str, message: Message, effect: Callable[[Connection, OrderCanceledEvent], None]) -> None:
    """Raises Fail for what is no event: it will not become one."""
    try:
        event = OrderCanceledEvent.model_validate_json(message.body)
    except ValidationError as error:
        raise Fail(f"this is no cancelled order: {faults(error)}") from error
    with shop.database.writing() as connection:
        if is_first(connection, group, event.event_id):
            effect(connection, event)
