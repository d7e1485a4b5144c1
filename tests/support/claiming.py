"""Users who come for a coupon all at once, in several processes with several threads each."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from threading import Barrier

from examples.marketing.coupons import stock
from examples.marketing.coupons.errors import CouponSoldOut, CouponTaken
from examples.marketing.store.database import Database

NOW_MS = 1

_all_ready: list[Barrier] = []


def claim(database: Database, coupon_id: int, user_id: int) -> bool:
    """Whether the user has got one."""
    try:
        with database.writing() as connection:
            stock.claim(connection, coupon_id, user_id, now_ms=NOW_MS)
    except (CouponSoldOut, CouponTaken):
        return False
    return True


def claimed_in_processes(
    url: str, coupon_id: int, user_ids: Sequence[int], *, processes: int, threads: int
) -> list[int]:
    """Each process claims for all users; who got one, as often as somebody was told so."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(processes)
    with ProcessPoolExecutor(processes, spawn, _begin, (barrier,)) as pool:
        done = [pool.submit(_claim_all, url, coupon_id, user_ids, threads) for _ in range(processes)]
        return [user_id for each in done for user_id in each.result(timeout=60)]


def _begin(barrier: Barrier) -> None:
    _all_ready.append(barrier)


def _claim_all(url: str, coupon_id: int, user_ids: Sequence[int], threads: int) -> list[int]:
    database = Database(url)
    try:
        _all_ready[0].wait(timeout=60)
        with ThreadPoolExecutor(threads) as pool:
            got = pool.map(partial(claim, database, coupon_id), user_ids)
            return [user_id for user_id, has_it in zip(user_ids, got, strict=True) if has_it]
    finally:
        database.close()
