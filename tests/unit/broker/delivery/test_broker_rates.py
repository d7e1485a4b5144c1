"""The token bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery.rates import Bucket


def test_a_full_bucket_gives_one_seconds_worth_at_once_and_then_waits() -> None:
    bucket = Bucket.full(10, now=5.0).take(10, 5.0)
    assert bucket.seconds_left(5.0) == 0
    assert bucket.take(1, 5.0).seconds_left(5.0) == pytest.approx(0.1)


def test_a_batch_larger_than_a_seconds_worth_goes_through_and_leaves_a_debt() -> None:
    bucket = Bucket.full(10, now=0.0).take(100, 0.0)
    assert bucket.seconds_left(0.0) == pytest.approx(9.0)
    assert bucket.seconds_left(8.9) > 0
    assert bucket.seconds_left(9.1) == 0


def test_what_is_not_used_is_kept_for_a_second_only() -> None:
    bucket = Bucket.full(10, now=0.0).take(20, 100.0)
    assert bucket.seconds_left(100.0) == pytest.approx(1.0)


def test_a_debt_is_paid_at_the_new_rate() -> None:
    bucket = Bucket.full(1, now=0.0).take(11, 0.0).at_rate(100, 0.0)
    assert bucket.seconds_left(0.0) == pytest.approx(0.1)


@given(st.floats(0.1, 1_000), st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), max_size=50))
def test_never_more_than_the_rate_and_one_last_batch(rate: float, takes: list[tuple[int, float]]) -> None:
    now, bucket, taken = 0.0, Bucket.full(rate, 0.0), 0
    for count, pause in takes:
        now += pause
        now += bucket.seconds_left(now)
        assert taken <= rate * (now + 1) + 1e-6  # before this one: what has been refilled, and the first second's worth
        bucket = bucket.take(count, now)
        taken += count
