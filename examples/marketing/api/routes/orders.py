"""Orders are placed and cancelled."""

from fastapi import APIRouter

from examples.marketing.api.parts import Id, Key, TheProducer, TheShop
from examples.marketing.orders import cancelling, placing
from examples.marketing.orders.model import Order, OrderRequest

router = APIRouter(prefix="/orders", tags=["orders"])


@router.post("", status_code=201)
def place(request: OrderRequest, shop: TheShop, key: Key = None) -> Order:
    """Takes the product's stock, uses the coupon, gives points. The same key of the same user: the same order."""
    return shop.database.apply(lambda connection: placing.place(connection, request, key=key, now_ms=shop.now_ms))


@router.get("/{order_id}")
def get(order_id: Id, shop: TheShop) -> Order:
    with shop.database.reading() as connection:
        return placing.get(connection, order_id)


@router.post("/{order_id}/cancel")
async def cancel(order_id: Id, shop: TheShop, producer: TheProducer) -> Order:
    """Asked again, it gives the same answer. Coupon, stock and points follow."""
    return await cancelling.cancel(producer, shop, order_id)
