"""The nightly sweep: each coupon that was not used in time goes back to the stock once, however often it is swept."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from examples.marketing.coupons import holding, stock
from examples.marketing.coupons.expiry import expire, expire_coupons
from examples.marketing.coupons.model import Coupon
from examples.marketing.shop import Shop
from shardcast import Context
from shardcast.testing import run_local
from tests.support.shops import DAY, Clock, add_coupon, add_users, count_of_grants, holders, left


def swept(shop: Shop, shards: int) -> int:
    """By hash: other than those of a run, shards that are run one by one would cut ranges of what the last one left."""
    by_hash = replace(shop, settings=shop.settings.model_copy(update={"strategy": "hash"}))

    def handler(context: Context) -> dict[str, int]:
        return expire_coupons(context, by_hash)

    results = [run_local(handler, shard=(index, shards)).result for index in range(shards)]
    assert all(isinstance(each, dict) for each in results)
    return sum(each["expired"] for each in results if isinstance(each, dict))


def granted(shop: Shop) -> tuple[Coupon, Coupon]:
    """To 50 users each; five of them have used theirs."""
    with shop.database.writing() as connection:
        add_users(connection, 50)
        first, second = add_coupon(connection, 60), add_coupon(connection, 50)
        for coupon in (first, second):
            stock.grant(connection, coupon, range(1, 51))
        for user_id in range(1, 6):
            holding.use(connection, first.id, user_id, user_id, now_ms=shop.now_ms)
    return first, second


def test_the_shards_of_a_sweep_expire_each_coupon_once_and_the_stock_has_it_back(shop: Shop, clock: Clock) -> None:
    first, second = granted(shop)
    assert swept(shop, 4) == 0
    clock.now += DAY
    assert swept(shop, 4) == 95
    assert swept(shop, 4) == 0
    with shop.database.reading() as connection:
        assert (holders(connection, first, "used"), holders(connection, second, "used")) == (set(range(1, 6)), set())
        assert len(holders(connection, first, "expired") | holders(connection, second, "expired")) == 50
        assert (left(connection, first), left(connection, second)) == (55, 50)
        assert count_of_grants(connection) == 100


def test_sweeps_that_meet_expire_each_coupon_once(shop: Shop, clock: Clock) -> None:
    """A shard that was taken from its holder may be at work twice for a moment."""
    first, second = granted(shop)
    clock.now += DAY
    grants = [(coupon.id, user_id) for coupon in (second, first) for user_id in range(1, 51)]

    def sweep(which: slice) -> int:
        with shop.database.writing() as connection:
            return expire(connection, grants[which], now_ms=shop.now_ms)

    slices = [slice(0, 70), slice(30, 100), slice(0, 100), slice(99, None, -1)]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sweep, slices)) == 95
    with shop.database.reading() as connection:
        assert (left(connection, first), left(connection, second)) == (55, 50)


def test_a_coupon_that_is_used_while_it_is_swept_stays_used(shop: Shop, clock: Clock) -> None:
    """The scan read it as granted."""
    first, _ = granted(shop)
    clock.now += DAY
    with shop.database.writing() as connection:
        assert expire(connection, [(first.id, user_id) for user_id in (1, 50)], now_ms=shop.now_ms) == 1
        assert holders(connection, first, "used") == set(range(1, 6))
