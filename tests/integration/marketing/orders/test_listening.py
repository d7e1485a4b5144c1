"""What becomes of a cancelled order, listener by listener, and the decision whether it is cancelled at all."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.exc import OperationalError

from examples.marketing.errors import NotFound
from examples.marketing.messages import OrderCanceledEvent
from examples.marketing.orders import cancelling, placing
from examples.marketing.orders.errors import CancellationOvertaken, PointsSpent
from examples.marketing.orders.listening import LISTENERS, deduct_points, return_stock
from examples.marketing.orders.model import OrderState
from examples.marketing.orders.seeding import Effects, Seeded, effects, seed
from examples.marketing.shop import Shop
from examples.marketing.store.tables import points
from shardcast import Fail, Message
from tests.support.shops import DAY, Clock, add_users, holders, left


def seeded(shop: Shop, count: int) -> Seeded:
    with shop.database.writing() as connection:
        return seed(connection, add_users(connection, count), now_ms=shop.now_ms)


def event(shop: Shop, order_id: int) -> OrderCanceledEvent:
    with shop.database.reading() as connection:
        return cancelling.event_of(placing.get(connection, order_id))


def so_far(shop: Shop, orders: Seeded) -> Effects:
    with shop.database.reading() as connection:
        return effects(connection, orders)


def test_what_comes_several_times_at_once_has_its_effect_once(shop: Shop) -> None:
    orders = seeded(shop, 4)
    messages = [cancelling.message_of(event(shop, order_id)) for order_id in orders.orders]
    calls = [(listener, message) for listener in LISTENERS.values() for message in messages] * 3

    def call(listener: Callable[[Message, Shop], None], message: Message) -> None:
        listener(message, shop)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, *zip(*calls, strict=True))) == [None] * 36
    assert so_far(shop, orders) == orders.all


def test_a_coupon_that_has_expired_meanwhile_goes_to_the_stock(sqlite_shop: Shop, clock: Clock) -> None:
    shop, orders = sqlite_shop, seeded(sqlite_shop, 2)
    clock.now += 31 * DAY
    LISTENERS["coupon_release"](cancelling.message_of(event(shop, orders.orders[0])), shop)
    with shop.database.reading() as connection:
        assert holders(connection, orders.coupon, "expired") == {1}
        assert left(connection, orders.coupon) == 1


def test_an_effect_that_fails_leaves_no_trace_and_can_be_had_later(shop: Shop) -> None:
    orders = seeded(shop, 1)
    message = cancelling.message_of(event(shop, orders.orders[0]))
    with shop.database.writing() as connection:
        connection.execute(update(points).values(balance=3))
    for _ in range(2):
        with pytest.raises(PointsSpent, match=r"order .* 10 cannot be deducted"):
            deduct_points(message, shop)
    with shop.database.writing() as connection:
        connection.execute(update(points).values(balance=10))
    deduct_points(message, shop)
    assert so_far(shop, orders).points == 10


def test_what_is_no_event_is_given_up_at_once_and_what_lacks_its_product_is_not_lost(sqlite_shop: Shop) -> None:
    with pytest.raises(Fail, match="no cancelled order: event_id: Field required"):
        deduct_points(Message(b"{}"), sqlite_shop)
    with pytest.raises(Fail, match="no cancelled order"):
        deduct_points(Message(b"\xff"), sqlite_shop)
    orders = seeded(sqlite_shop, 1)
    unknown = event(sqlite_shop, orders.orders[0]).model_copy(update={"product_id": 999, "coupon_id": 999})
    with pytest.raises(NotFound, match="product 999"):
        return_stock(cancelling.message_of(unknown), sqlite_shop)
    with pytest.raises(NotFound, match="coupon 999"):
        LISTENERS["coupon_release"](cancelling.message_of(unknown), sqlite_shop)


def test_an_order_without_coupon_and_points_has_nothing_to_lose(sqlite_shop: Shop) -> None:
    orders = seeded(sqlite_shop, 1)
    bare = event(sqlite_shop, orders.orders[0]).model_copy(update={"coupon_id": None, "points": 0, "user_id": 77})
    for listener in LISTENERS.values():
        listener(cancelling.message_of(bare), sqlite_shop)
    assert so_far(sqlite_shop, orders) == Effects(0, 1, 0)


def test_of_cancellations_at_once_one_wins(shop: Shop) -> None:
    orders = seeded(shop, 1)
    events = [event(shop, orders.orders[0]) for _ in range(6)]

    def cancel(each: OrderCanceledEvent) -> str | None:
        try:
            cancelling.keep(shop, each)
        except CancellationOvertaken:
            return None
        return each.event_id

    with ThreadPoolExecutor(6) as pool:
        won = [event_id for event_id in pool.map(cancel, events) if event_id]
    assert len(won) == 1
    answers = {each.event_id: cancelling.was_canceled(shop, cancelling.message_of(each)) for each in events}
    assert answers == {each.event_id: each.event_id == won[0] for each in events}


def test_a_cancellation_that_the_broker_was_told_is_none_cannot_become_one(shop: Shop) -> None:
    """The broker asks another process while a slow one is still waiting for the database."""
    orders = seeded(shop, 1)
    slow = event(shop, orders.orders[0])
    assert cancelling.was_canceled(shop, cancelling.message_of(slow)) is False
    with pytest.raises(CancellationOvertaken, match="ask again"):
        cancelling.keep(shop, slow)
    cancelling.keep(shop, event(shop, orders.orders[0]))
    with shop.database.reading() as connection:
        assert placing.get(connection, orders.orders[0]).state is OrderState.CANCELED
    assert cancelling.was_canceled(shop, cancelling.message_of(slow)) is False


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_whose_answer_is_lost_counts_as_what_it_was(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    orders = seeded(sqlite_shop, 1)
    canceled, writing, failures = event(sqlite_shop, orders.orders[0]), sqlite_shop.database.writing, [1]

    @contextmanager
    def losing() -> Iterator[Connection]:
        with writing() as connection:
            yield connection
            if failures and not is_committed:
                raise OperationalError("COMMIT", {}, OSError(f"connection lost {failures.pop()}"))
        if failures:
            raise OperationalError("COMMIT", {}, OSError(f"connection lost {failures.pop()}"))

    monkeypatch.setattr(sqlite_shop.database, "writing", losing)
    with nullcontext() if is_committed else pytest.raises(OperationalError):
        cancelling.keep(sqlite_shop, canceled)
    assert not failures
    assert cancelling.was_canceled(sqlite_shop, cancelling.message_of(canceled)) is is_committed
