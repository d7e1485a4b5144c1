"""Placing an order: stock, coupon and points in one transaction. All that waits takes them in this order."""

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from examples.marketing.coupons import holding
from examples.marketing.errors import NotFound
from examples.marketing.orders.errors import OrderDiffers, OutOfStock
from examples.marketing.orders.model import POINTS_A_PIECE, Order, OrderRequest, OrderState
from examples.marketing.store import users
from examples.marketing.store.tables import orders, points, products

_SHOWN = [column for column in orders.c if column.name != "request_key"]


def get(connection: Connection, order_id: int) -> Order:
    """Raises NotFound."""
    found = _find(connection, orders.c.id == order_id)
    if found is None:
        raise NotFound(what="order", key=order_id)
    return found


def place(connection: Connection, request: OrderRequest, *, key: str | None, now_ms: int) -> Order:
    """With the key of an order of this user: that one.

    Raises NotFound, OrderDiffers, OutOfStock or CouponNotUsable; the transaction is to be rolled back then.
    """
    users.check(connection, request.user_id)
    if key is not None and (known := _known(connection, request, key)) is not None:
        return known
    try:
        with connection.begin_nested():
            order_id = _add(connection, request, key)
    except IntegrityError:  # the same key, at the same time
        known = _known(connection, request, key) if key is not None else None
        if known is None:
            raise
        return known
    _take_stock(connection, request)
    if request.coupon_id is not None:
        holding.use(connection, request.coupon_id, request.user_id, order_id, now_ms=now_ms)
    give_points(connection, request.user_id, _points(request))
    return get(connection, order_id)


def give_points(connection: Connection, user_id: int, count: int) -> None:
    grown = update(points).where(points.c.user_id == user_id).values(balance=points.c.balance + count)
    if connection.execute(grown).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(points).values(user_id=user_id, balance=count))
    except IntegrityError:  # their first points came by another order, at the same time
        connection.execute(grown)


def _known(connection: Connection, request: OrderRequest, key: str) -> Order | None:
    """Raises OrderDiffers."""
    found = _find(connection, and_(orders.c.user_id == request.user_id, orders.c.request_key == key))
    if found is not None and any(getattr(found, name) != value for name, value in request):
        raise OrderDiffers(key=key, order_id=found.id)
    return found


def _add(connection: Connection, request: OrderRequest, key: str | None) -> int:
    fixed = {"points": _points(request), "state": OrderState.PLACED.value, "request_key": key}
    inserted = connection.execute(insert(orders).values(**request.model_dump(), **fixed)).inserted_primary_key
    assert inserted is not None
    return int(inserted[0])


def _take_stock(connection: Connection, request: OrderRequest) -> None:
    """Raises NotFound or OutOfStock."""
    product, count = products.c.id == request.product_id, request.quantity
    taken = update(products).values(stock=products.c.stock - count, sold=products.c.sold + count)
    if connection.execute(taken.where(product, products.c.stock >= count)).rowcount:
        return
    if connection.execute(select(products.c.id).where(product)).first() is None:
        raise NotFound(what="product", key=request.product_id)
    raise OutOfStock(product_id=request.product_id, quantity=count)


def _points(request: OrderRequest) -> int:
    return request.quantity * POINTS_A_PIECE


def _find(connection: Connection, where: ColumnElement[bool]) -> Order | None:
    row = connection.execute(select(*_SHOWN).where(where)).one_or_none()
    return _order(row) if row is not None else None


def _order(row: Row[tuple[object, ...]]) -> Order:
    return Order(**{**row._mapping, "state": OrderState(row.state)})
