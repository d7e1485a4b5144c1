"""Cancelling an order: its state changes and its event is published in one transaction, over database and broker."""

import asyncio
import uuid
from functools import partial

from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError

from examples.marketing.messages import OrderCanceledEvent
from examples.marketing.orders import placing
from examples.marketing.orders.errors import CancellationOvertaken
from examples.marketing.orders.model import Order, OrderState
from examples.marketing.shop import Shop
from examples.marketing.store.inbox import is_first
from examples.marketing.store.tables import inbox, orders
from examples.marketing.topics import ORDER_CANCELED
from examples.marketing.transacting import transact
from shardcast import Message, aio

DECIDED = "order_canceled"
"""Where the inbox has the cancellations that are decided: by whoever cancelled, or by who told the broker that nobody
did; the other one of them comes too late. The broker may ask while a slow process is still at it."""


def event_of(order: Order) -> OrderCanceledEvent:
    """A new one."""
    return OrderCanceledEvent(
        event_id=uuid.uuid4().hex,
        order_id=order.id,
        user_id=order.user_id,
        product_id=order.product_id,
        quantity=order.quantity,
        coupon_id=order.coupon_id,
        points=order.points,
    )


def message_of(event: OrderCanceledEvent) -> Message:
    """Events of one order come one at a time, in their order."""
    return Message(event.model_dump_json().encode(), key=str(event.order_id), ordered=True)


async def cancel(producer: aio.Producer, shop: Shop, order_id: int) -> Order:
    """Asked again, it gives the same answer. Raises NotFound, CancellationOvertaken (ask again) and BrokerAway."""
    order = await asyncio.to_thread(_get, shop, order_id)
    if order.state is OrderState.CANCELED:
        return order
    event = event_of(order)
    try:
        await transact(producer, ORDER_CANCELED, message_of(event), partial(keep, shop, event))
    except CancellationOvertaken:
        order = await asyncio.to_thread(_get, shop, order_id)
        if order.state is OrderState.PLACED:
            raise
        return order
    return await asyncio.to_thread(_get, shop, order_id)


def keep(shop: Shop, event: OrderCanceledEvent) -> None:
    """The part of the database. Raises CancellationOvertaken."""
    shop.database.settle(partial(_keep, event), partial(_kept, event))


def was_canceled(shop: Shop, message: Message) -> bool:
    """The check back: whether the order was cancelled by this event. If not, it will never be by that."""
    event = OrderCanceledEvent.model_validate_json(message.body)
    with shop.database.writing() as connection:
        return _kept(event, connection) is not None


def _kept(event: OrderCanceledEvent, connection: Connection) -> Order | None:
    """The order that it cancelled; None: none, and it never will."""
    if is_first(connection, DECIDED, event.event_id):
        return None
    order = placing.get(connection, event.order_id)
    return order if order.event_id == event.event_id else None


def _keep(event: OrderCanceledEvent, connection: Connection) -> Order:
    is_placed = (orders.c.id == event.order_id) & (orders.c.state == OrderState.PLACED.value)
    try:
        connection.execute(insert(inbox).values(group_name=DECIDED, event_id=event.event_id))
    except IntegrityError as error:
        raise CancellationOvertaken(order_id=event.order_id) from error
    values = {"state": OrderState.CANCELED.value, "event_id": event.event_id}
    if connection.execute(update(orders).where(is_placed).values(**values)).rowcount == 0:
        raise CancellationOvertaken(order_id=event.order_id)
    return placing.get(connection, event.order_id)


def _get(shop: Shop, order_id: int) -> Order:
    with shop.database.reading() as connection:
        return placing.get(connection, order_id)
