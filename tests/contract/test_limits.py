"""One suite for every store of limits: once, rates and caps."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from executor.errors import ClaimHeld
from executor.limits.claims import Unknown
from executor.limits.limits import Limits
from tests.support.limit_stores import KINDS, Installation, installed

DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
NOTHING = timedelta(0)

ODD_KEYS = [
    "a",
    "A",
    "a ",
    " a",
    "é",
    "e\u0301",
    "用户:1",
    "0",
    "00",
    "k" * 128,
    "k" * 129,
    "k" * 5_000,
    "a\0b",
    "\ud800",
]


@pytest.fixture(params=KINDS)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(request.param, request, tmp_path) as there:
        yield there


@pytest.fixture
def limits(installation: Installation) -> Limits:
    return installation.open()


def do_once(limits: Limits, key: str, window: timedelta = DAY) -> bool:
    with limits.once(key, window=window) as is_first:
        return is_first


def test_what_was_done_is_not_done_again_within_its_window(installation: Installation, limits: Limits) -> None:
    assert do_once(limits, "order-7")
    assert not do_once(installation.open(), "order-7")
    installation.pass_time(DAY - MINUTE)
    assert not do_once(limits, "order-7")
    installation.pass_time(2 * MINUTE)
    assert do_once(limits, "order-7")


def test_an_error_gives_the_key_back(installation: Installation, limits: Limits) -> None:
    with pytest.raises(RuntimeError), limits.once("order-7", window=DAY):
        raise RuntimeError("no such user")
    assert do_once(installation.open(), "order-7")


def test_an_error_of_one_that_was_not_first_gives_nothing_back(installation: Installation, limits: Limits) -> None:
    assert do_once(limits, "order-7")
    with pytest.raises(RuntimeError), limits.once("order-7", window=DAY):
        raise RuntimeError("what was done stays done")
    assert not do_once(limits, "order-7")


def test_a_claim_of_somebody_at_work_is_told_with_the_time_it_lasts(installation: Installation, limits: Limits) -> None:
    with limits.once("order-7", window=DAY, claim=MINUTE):
        with pytest.raises(ClaimHeld, match="order-7") as told:
            do_once(installation.open(), "order-7")
        assert told.value.after is not None
        assert timedelta(seconds=30) < told.value.after <= MINUTE
    assert not do_once(limits, "order-7")


@pytest.mark.parametrize(("unknown", "is_repeated"), [("repeat", True), ("skip", False)])
def test_a_claim_that_lapsed_is_repeated_or_skipped(
    installation: Installation, limits: Limits, unknown: Unknown, is_repeated: bool
) -> None:
    limits.once("order-7", window=DAY, claim=MINUTE).__enter__()  # its process dies
    installation.pass_time(MINUTE - SECOND * 10)
    with pytest.raises(ClaimHeld), installation.open().once("order-7", window=DAY, unknown=unknown):
        pass
    installation.pass_time(SECOND * 11)
    with installation.open().once("order-7", window=DAY, unknown=unknown) as is_first:
        assert is_first is is_repeated


def test_what_is_skipped_as_unknown_is_free_when_the_window_is_over(installation: Installation, limits: Limits) -> None:
    limits.once("order-7", window=DAY, claim=MINUTE).__enter__()
    installation.pass_time(DAY + SECOND)
    with limits.once("order-7", window=DAY, unknown="skip") as is_first:
        assert is_first


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_a_holder_that_comes_late_changes_nothing_of_the_next_one(
    installation: Installation, limits: Limits, error: type[Exception] | None
) -> None:
    late = limits.once("order-7", window=DAY, claim=MINUTE)
    assert late.__enter__()
    installation.pass_time(MINUTE + SECOND)
    with installation.open().once("order-7", window=DAY, claim=MINUTE) as is_first:
        assert is_first
        with structlog.testing.capture_logs() as lines:
            late.__exit__(error, error("late") if error else None, None)
        assert [line["action"] for line in lines] == ([] if error else ["claim_lost"])
        with pytest.raises(ClaimHeld):  # neither done nor given back
            do_once(limits, "order-7")
    assert not do_once(limits, "order-7")


def test_a_holder_that_comes_late_where_nobody_came_marks_it_done(installation: Installation, limits: Limits) -> None:
    late = limits.once("order-7", window=DAY, claim=MINUTE)
    late.__enter__()
    installation.pass_time(MINUTE + SECOND)
    late.__exit__(None, None, None)
    assert not do_once(limits, "order-7")


def test_of_many_keys_those_come_that_nobody_did_in_order_and_each_once(limits: Limits) -> None:
    assert do_once(limits, "b")
    with limits.once_all(["d", "b", "a", "d", "c"], window=DAY) as fresh:
        assert (fresh, fresh.held) == (["d", "a", "c"], [])
    with limits.once_all(["a", "b", "c", "d", "e"], window=DAY) as fresh:
        assert fresh == ["e"]


def test_keys_that_others_hold_are_told_and_come_again_at_the_end(installation: Installation, limits: Limits) -> None:
    with limits.once_all(["b", "c"], window=DAY, claim=MINUTE):
        with (
            pytest.raises(ClaimHeld, match=r"'[bc]' \(2 keys in all\)") as told,
            installation.open().once_all(["a", "b", "c"], window=DAY) as fresh,
        ):
            assert (fresh, sorted(fresh.held)) == (["a"], ["b", "c"])
        assert told.value.after is not None
        assert NOTHING < told.value.after <= MINUTE
        assert not do_once(limits, "a")  # it is marked done before the others are told


def test_an_error_gives_all_keys_back(installation: Installation, limits: Limits) -> None:
    with pytest.raises(RuntimeError), limits.once_all(["a", "b"], window=DAY):
        raise RuntimeError
    with installation.open().once_all(["a", "b"], window=DAY) as fresh:
        assert fresh == ["a", "b"]


def test_keys_that_were_not_done_after_all_are_free_again(installation: Installation, limits: Limits) -> None:
    with limits.once_all(["a", "b", "c"], window=DAY) as fresh:
        fresh.give_back("a", "c", "somebody else's")
        with pytest.raises(ClaimHeld), installation.open().once("a", window=DAY):
            raise AssertionError("they are ours as long as the block lasts")
    with installation.open().once_all(["a", "b", "c"], window=DAY) as fresh:
        assert fresh == ["a", "c"]


def test_keys_that_look_alike_are_different_ones(limits: Limits) -> None:
    with limits.once_all(ODD_KEYS, window=DAY) as fresh:
        assert fresh == ODD_KEYS
    with limits.once_all([key + "x" for key in ODD_KEYS], window=DAY) as fresh:
        assert len(fresh) == len(ODD_KEYS)
    with limits.once_all(ODD_KEYS, window=DAY) as fresh:
        assert fresh == []


def test_a_bucket_gives_its_burst_and_then_one_token_at_a_time(installation: Installation, limits: Limits) -> None:
    def take() -> timedelta:
        return limits.take("sms", rate=2, per=MINUTE, burst=3)

    assert [take() for _ in range(3)] == [NOTHING] * 3
    wait = take()
    assert timedelta(seconds=20) < wait <= timedelta(seconds=30)
    installation.pass_time(wait + SECOND)
    assert take() == NOTHING
    assert take() > timedelta(seconds=20)
    installation.pass_time(10 * MINUTE)
    assert [take() > NOTHING for _ in range(4)] == [False, False, False, True]


def test_what_was_not_granted_takes_nothing(limits: Limits) -> None:
    def take(n: int) -> timedelta:
        return limits.take("sms", n, rate=4, per=DAY)

    assert take(3) == NOTHING
    assert take(2) > NOTHING
    assert take(1) == NOTHING
    assert take(1) > NOTHING


def test_buckets_of_many_keys_are_asked_at_once(limits: Limits) -> None:
    limits.take("b", rate=2, per=DAY)
    waits = limits.take_all(["a", "b", "a", "b", "a"], rate=2, per=DAY)
    assert [wait == NOTHING for wait in waits] == [True, True, True, False, False]


def test_a_bucket_is_never_emptier_than_empty(limits: Limits) -> None:
    limits.take("sms", 100, rate=100, per=DAY)
    assert limits.take("sms", rate=1, per=MINUTE) <= MINUTE


def test_a_cap_allows_so_many_in_any_window(installation: Installation, limits: Limits) -> None:
    def cap() -> bool:
        return limits.cap("user-1", most=3, window=DAY)

    assert cap()
    installation.pass_time(DAY / 2)
    assert [cap() for _ in range(4)] == [True, True, False, False]
    installation.pass_time(DAY / 2 - MINUTE)
    assert not cap()
    installation.pass_time(2 * MINUTE)  # the first one is older than a window, and those that were refused do not count
    assert [cap(), cap()] == [True, False]


def test_caps_of_many_keys_are_asked_at_once(limits: Limits) -> None:
    assert limits.cap("b", most=2, window=DAY)
    assert limits.cap_all(["c", "b", "a", "b", "a", "a"], most=2, window=DAY) == ["c", "b", "a", "a"]
    assert limits.cap_all(["a", "b", "c"], most=2, window=DAY) == ["c"]


def test_caps_of_one_key_in_two_windows_do_not_disturb_each_other(installation: Installation, limits: Limits) -> None:
    assert limits.cap("user-1", most=1, window=DAY)
    assert limits.cap("user-1", most=1, window=MINUTE)
    installation.pass_time(2 * MINUTE)
    assert limits.cap("user-1", most=1, window=MINUTE)
    assert not limits.cap("user-1", most=1, window=DAY)


def test_once_rates_and_caps_of_one_key_are_three_things(limits: Limits) -> None:
    assert do_once(limits, "k")
    assert limits.cap("k", most=1, window=DAY)
    assert limits.take("k", rate=1) == NOTHING


def test_no_keys_are_no_call(limits: Limits) -> None:
    with limits.once_all([], window=DAY) as fresh:
        assert fresh == []
    assert (limits.cap_all([], most=1, window=DAY), limits.take_all([], rate=1)) == ([], [])


def test_a_call_takes_ten_thousand_keys(limits: Limits) -> None:
    keys = [f"user-{number}" for number in range(10_000)]
    with limits.once_all(keys, window=DAY) as fresh:
        assert fresh == keys
    assert limits.cap_all(keys, most=1, window=DAY) == keys
