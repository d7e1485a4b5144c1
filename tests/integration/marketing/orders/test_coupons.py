"""Coupons on the databases that the system runs on: never more of them than there are, one a user."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import TypeAdapter
from sqlalchemy import insert

from examples.marketing.coupons import holding, stock
from examples.marketing.coupons.errors import (
    CouponExpired,
    CouponNotOffered,
    CouponNotUsable,
    CouponSoldOut,
    CouponTaken,
)
from examples.marketing.coupons.model import Coupon
from examples.marketing.errors import NotFound
from examples.marketing.fanout import recipients
from examples.marketing.personas.conditions import Condition
from examples.marketing.promotions.model import CouponOrder
from examples.marketing.promotions.states import Verb
from examples.marketing.shop import Shop
from examples.marketing.store import promotions
from examples.marketing.store.tables import audience_members
from tests.support.claiming import claim, claimed_in_processes
from tests.support.shops import BEGIN, DAY, Clock, add_coupon, add_users, holders, left


def offered(shop: Shop, count: int, users: int) -> Coupon:
    with shop.database.writing() as connection:
        add_users(connection, users)
        return add_coupon(connection, count)


def states(shop: Shop, user_id: int) -> list[tuple[int, str]]:
    with shop.database.reading() as connection:
        return [(each.coupon_id, each.state) for each in holding.of_user(connection, user_id, now_ms=shop.now_ms)]


def test_threads_that_claim_at_once_get_what_there_is_and_a_user_gets_one(shop: Shop) -> None:
    coupon = offered(shop, 20, users=40)
    wanting = [*range(1, 41), *range(1, 41)]
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda user_id: claim(shop.database, coupon.id, user_id), wanting))
    winners = Counter(user_id for user_id, has_it in zip(wanting, got, strict=True) if has_it)
    assert sum(winners.values()) == len(winners) == 20
    with shop.database.reading() as connection:
        assert holders(connection, coupon) == set(winners)
        assert left(connection, coupon) == 0


def test_processes_that_claim_at_once_get_what_there_is_and_a_user_gets_one(shop: Shop) -> None:
    coupon = offered(shop, 25, users=60)
    got = claimed_in_processes(shop.settings.database, coupon.id, range(1, 61), processes=3, threads=4)
    assert len(got) == len(set(got)) == 25
    with shop.database.reading() as connection:
        assert holders(connection, coupon) == set(got)
        assert left(connection, coupon) == 0


def test_batches_that_are_granted_at_once_stop_at_the_stock_and_agree_on_who_has_one(shop: Shop) -> None:
    """Those of a shard and of the one that it was taken from; some users come by themselves meanwhile."""
    coupon = offered(shop, 150, users=300)
    batches = [range(first, first + 100) for first in (1, 101, 201, 51, 151, 1, 101, 201)]

    def grant(users: range) -> set[int]:
        with shop.database.writing() as connection:
            return stock.grant(connection, coupon, users)

    with ThreadPoolExecutor(12) as pool:
        claims = pool.map(lambda user_id: claim(shop.database, coupon.id, user_id), range(1, 301, 30))
        granted = list(pool.map(grant, batches))
        list(claims)
    with shop.database.reading() as connection:
        final = holders(connection, coupon)
        assert len(final) == 150
        assert left(connection, coupon) == 0
    assert all(each <= final for each in granted)
    for users, each in zip(batches, granted, strict=True):
        assert grant(users) >= each  # and again, later


def test_a_thousand_are_granted_once_and_those_who_have_it_are_told_again(shop: Shop) -> None:
    coupon = offered(shop, 1_200, users=1_500)
    with shop.database.writing() as connection:
        stock.claim(connection, coupon.id, 7, now_ms=0)
        assert stock.grant(connection, coupon, range(1, 1_001)) == set(range(1, 1_001))
        assert stock.grant(connection, coupon, range(1, 1_001)) == set(range(1, 1_001))
        assert left(connection, coupon) == 200
        assert stock.grant(connection, coupon, range(901, 1_501)) == set(range(901, 1_201))
        assert left(connection, coupon) == 0
        assert stock.grant(connection, coupon, []) == set()


def test_a_refusal_says_why(shop: Shop, clock: Clock) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 2)
        saved = add_coupon(connection, 1, verbs=())
        cancelled = add_coupon(connection, 1, verbs=(Verb.LAUNCH, Verb.CANCEL))
        eager = add_coupon(connection, 1, is_lazy=False)
        completed = add_coupon(connection, 1, verbs=(Verb.LAUNCH, Verb.COMPLETE))
        sold_out = add_coupon(connection, 0)

    def refusal(coupon_id: int, user_id: int) -> tuple[type[BaseException], str]:
        with pytest.raises(Exception) as refused, shop.database.writing() as connection:  # noqa: PT011  # told below
            stock.claim(connection, coupon_id, user_id, now_ms=shop.now_ms)
        return refused.type, str(refused.value)

    assert refusal(saved.id, 1) == (
        CouponNotOffered,
        f"Coupon {saved.id} cannot be claimed: its promotion has not begun.",
    )
    assert "is cancelled" in refusal(cancelled.id, 1)[1]
    assert "those whom its promotion is for" in refusal(eager.id, 1)[1]
    assert refusal(sold_out.id, 1)[0] is CouponSoldOut
    assert refusal(sold_out.id + 1, 1) == (NotFound, f"There is no coupon {sold_out.id + 1}.")
    assert refusal(completed.id, 3) == (NotFound, "There is no user 3.")
    with shop.database.writing() as connection:
        stock.claim(connection, completed.id, 1, now_ms=shop.now_ms)
    assert refusal(completed.id, 1)[0] is CouponTaken
    assert refusal(completed.id, 2)[0] is CouponSoldOut
    clock.now += DAY
    assert refusal(completed.id, 2)[0] is CouponExpired


def test_a_lazy_coupon_for_designated_users_is_for_them_alone(shop: Shop) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 3)
        coupon = add_coupon(
            connection, 3, audience=TypeAdapter(Condition).validate_python({"field": "age", "least": 1})
        )
        members = [{"promotion_id": coupon.promotion_id, "user_id": user_id} for user_id in (1, 2)]
        connection.execute(insert(audience_members), members)
    assert (states(shop, 1), states(shop, 3)) == ([(coupon.id, "offered")], [])
    with shop.database.writing() as connection:
        stock.claim(connection, coupon.id, 2, now_ms=shop.now_ms)
    with (
        pytest.raises(CouponNotOffered, match="user 3 is not among those whom it is for"),
        shop.database.writing() as connection,
    ):
        stock.claim(connection, coupon.id, 3, now_ms=shop.now_ms)
    with shop.database.reading() as connection:
        assert holders(connection, coupon) == {2}


def test_a_coupon_that_has_expired_by_now_is_given_to_nobody(shop: Shop, clock: Clock) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 2)
        coupon = add_coupon(connection, 2, is_lazy=False)
        promotion = promotions.get(connection, coupon.promotion_id)
        assert recipients.given(connection, promotion, [1], now_ms=shop.now_ms) == [1]
        clock.now += DAY
        assert recipients.given(connection, promotion, [1, 2], now_ms=shop.now_ms) == []
        assert (holders(connection, coupon), left(connection, coupon)) == ({1}, 1)


def test_a_stock_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="stock"):
        CouponOrder(name="Five off", value_cents=500, stock=-1, expires_at=BEGIN)


def test_a_user_sees_what_there_is_to_have_and_what_became_of_it(shop: Shop, clock: Clock) -> None:
    with shop.database.writing() as connection:
        add_users(connection, 2)
        lazy = add_coupon(connection, 1)
        eager = add_coupon(connection, 1, is_lazy=False)
        for verbs in ((), (Verb.LAUNCH, Verb.CANCEL)):
            add_coupon(connection, 1, verbs=verbs)
        add_coupon(connection, 0)
        stock.grant(connection, eager, [2])
    assert (states(shop, 1), states(shop, 2)) == ([(lazy.id, "offered")], [(lazy.id, "offered"), (eager.id, "granted")])
    with shop.database.writing() as connection:
        stock.claim(connection, lazy.id, 2, now_ms=shop.now_ms)
        holding.use(connection, lazy.id, 2, 77, now_ms=shop.now_ms)
    assert (states(shop, 1), states(shop, 2)) == ([], [(lazy.id, "used"), (eager.id, "granted")])
    clock.now += DAY
    assert states(shop, 2) == [(lazy.id, "used"), (eager.id, "expired")]  # before the sweep too
    with pytest.raises(NotFound):
        states(shop, 3)


def test_a_coupon_is_used_by_one_order_and_comes_back_once(shop: Shop, clock: Clock) -> None:
    coupon = offered(shop, 2, users=2)

    def why_not(user_id: int) -> str:
        with pytest.raises(CouponNotUsable) as refused, shop.database.writing() as connection:
            holding.use(connection, coupon.id, user_id, 8, now_ms=shop.now_ms)
        return str(refused.value)

    assert "does not have it" in why_not(1)
    with shop.database.writing() as connection:
        stock.grant(connection, coupon, [1, 2])
        holding.use(connection, coupon.id, 1, 7, now_ms=shop.now_ms)
        holding.use(connection, coupon.id, 2, 9, now_ms=shop.now_ms)
    assert "used already" in why_not(1)
    with shop.database.writing() as connection:
        holding.release(connection, coupon.id, 1, 8, now_ms=shop.now_ms)  # another order's
    assert states(shop, 1) == [(coupon.id, "used")]
    with shop.database.writing() as connection:
        holding.release(connection, coupon.id, 1, 7, now_ms=shop.now_ms)
    assert states(shop, 1) == [(coupon.id, "granted")]
    clock.now += DAY
    assert "has expired" in why_not(1)
    with shop.database.writing() as connection:
        for _ in range(2):  # what comes back too late is nobody's any more
            holding.release(connection, coupon.id, 2, 9, now_ms=shop.now_ms)
        assert holders(connection, coupon, "expired") == {2}
        assert left(connection, coupon) == 1
