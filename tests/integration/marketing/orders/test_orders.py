"""Orders on the databases that the system runs on: stock, coupon and points, all of them or none."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from examples.marketing.coupons import stock
from examples.marketing.coupons.errors import CouponNotUsable
from examples.marketing.errors import NotFound
from examples.marketing.orders import placing
from examples.marketing.orders.errors import OrderDiffers, OutOfStock
from examples.marketing.orders.model import Order, OrderRequest
from examples.marketing.orders.seeding import STOCK, Effects, effects, seed
from examples.marketing.shop import Shop
from examples.marketing.store.tables import coupon_grants, orders, points, products
from tests.support.shops import add_coupon, add_product, add_users, holders, left


def placed(shop: Shop, request: OrderRequest, key: str | None = None) -> Order:
    return shop.database.apply(lambda connection: placing.place(connection, request, key=key, now_ms=shop.now_ms))


def balances(shop: Shop) -> dict[int, int]:
    with shop.database.reading() as connection:
        return dict(connection.execute(select(points.c.user_id, points.c.balance)).all())


def stock_and_sold(shop: Shop, product_id: int) -> tuple[int, int]:
    with shop.database.reading() as connection:
        where = products.c.id == product_id
        return tuple(connection.execute(select(products.c.stock, products.c.sold).where(where)).one())


def count_of_orders(shop: Shop) -> int:
    with shop.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(orders)).scalar_one())


def test_an_order_takes_stock_uses_the_coupon_and_gives_points(shop: Shop) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 1)
        product, coupon = add_product(connection, 10), add_coupon(connection, 1)
        stock.grant(connection, coupon, [1])
    order = placed(shop, OrderRequest(user_id=1, product_id=product, quantity=3, coupon_id=coupon.id))
    second = placed(shop, OrderRequest(user_id=1, product_id=product))
    assert (order.points, second.points, balances(shop)) == (30, 10, {1: 40})
    assert stock_and_sold(shop, product) == (6, 4)
    with shop.database.reading() as connection:
        assert placing.get(connection, order.id) == order
        used = select(coupon_grants.c.state, coupon_grants.c.order_id)
        assert connection.execute(used).all() == [("used", order.id)]


@pytest.mark.parametrize("wrong", ["user", "product", "stock", "coupon"])
def test_an_order_that_cannot_be_placed_changes_nothing(shop: Shop, wrong: str) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 1)
        product = add_product(connection, 2)
    fine = OrderRequest(user_id=1, product_id=product, quantity=2)
    change, error = {
        "user": ({"user_id": 2}, NotFound),
        "product": ({"product_id": product + 1}, NotFound),
        "stock": ({"quantity": 3}, OutOfStock),
        "coupon": ({"coupon_id": 9}, CouponNotUsable),
    }[wrong]
    with pytest.raises(error):
        placed(shop, fine.model_copy(update=change))
    assert (count_of_orders(shop), stock_and_sold(shop, product), balances(shop)) == (0, (2, 0), {})


def test_a_key_places_one_order_and_another_one_under_it_is_refused(shop: Shop) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 2)
        product = add_product(connection, 10)
    request = OrderRequest(user_id=1, product_id=product)
    first = placed(shop, request, "key")
    assert placed(shop, request, "key") == first
    with pytest.raises(OrderDiffers, match=f"belongs to another order, {first.id}"):
        placed(shop, request.model_copy(update={"quantity": 2}), "key")
    assert placed(shop, request.model_copy(update={"user_id": 2}), "key").id != first.id  # each user has their own keys
    assert placed(shop, request, "other").id != first.id
    assert stock_and_sold(shop, product) == (7, 3)


def test_requests_at_once_never_oversell_and_those_with_one_key_are_one(shop: Shop) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 8)
        product = add_product(connection, 12)

    def order(number: int) -> int | None:
        user_id = 1 + number % 8
        try:
            return placed(shop, OrderRequest(user_id=user_id, product_id=product), f"key {number // 16}").id
        except OutOfStock:
            return None

    with ThreadPoolExecutor(16) as pool:  # 16 orders, each asked for twice, of 12 pieces
        found = {order_id for order_id in pool.map(order, range(32)) if order_id is not None}
    assert (len(found), count_of_orders(shop)) == (12, 12)
    assert stock_and_sold(shop, product) == (0, 12)
    assert sum(balances(shop).values()) == 120


def test_seeded_orders_are_as_if_they_had_been_placed(shop: Shop) -> None:
    with shop.database.writing() as connection:
        users = add_users(connection, 2_000)
        placing.give_points(connection, 7, 5)
        seeded = seed(connection, users[:1_500], now_ms=shop.now_ms)
        assert effects(connection, seeded) == Effects(0, 0, 0)
        assert seeded.all == Effects(1_500, 3_000, 30_000)
        assert holders(connection, seeded.coupon, "used") == set(users[:1_500])
        assert left(connection, seeded.coupon) == 0
        seventh = placing.get(connection, seeded.orders[6])
        assert (seventh.user_id, seventh.coupon_id, seventh.points) == (7, seeded.coupon.id, 10)
        again = seed(connection, users[1_000:], now_ms=shop.now_ms)  # other orders, and some users have points
        assert effects(connection, again) == Effects(0, 0, 0)
    assert [stock_and_sold(shop, product) for product in seeded.products] == [(STOCK, 300)] * 10
    assert balances(shop)[7] == 15
    assert sum(balances(shop).values()) == 5 + 30_000 + again.all.points
    assert placed(shop, OrderRequest(user_id=1, product_id=seeded.products[0])).id > max(again.orders)
