"""What limits refuse, and how they say so."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from executor.app import Executor
from executor.errors import BadLimits, LimitsUnreachable, NoLimits
from executor.limits.current import current_limits, once, using
from executor.limits.limits import Limits
from executor.limits.memory import PRUNE_EVERY, MemoryStore
from executor.limits.names import MAX_NAME, name_of
from protos.errors import InvalidArgument
from tests.support.limit_stores import Clock

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)

BAD_CALLS: dict[str, Callable[[Any], object]] = {
    "a key of limits is a text that is not empty, not ''": lambda it: it.once("", window=DAY),
    "a key of limits is a text that is not empty, not None": lambda it: it.once_all(["a", None], window=DAY),
    "a key of limits is a text that is not empty, not 7": lambda it: it.cap_all([7], most=1, window=DAY),
    "keys are a list of texts, not str": lambda it: it.once_all("abc", window=DAY),
    "keys are a list of texts, not set": lambda it: it.cap_all({"a"}, most=1, window=DAY),
    "one call takes at most 10000 keys, not 10001": lambda it: it.take_all(["k"] * 10_001, rate=1),
    "window is a timedelta, not 60": lambda it: it.once("a", window=60),
    "window is a millisecond to 3660 days long, not 0:00:00": lambda it: it.cap("a", most=1, window=timedelta(0)),
    "window is a millisecond to 3660 days long, not 3661 days": lambda it: it.once("a", window=timedelta(days=3661)),
    "claim is no longer than the window": lambda it: it.once("a", window=SECOND, claim=DAY),
    "unknown is repeat or skip, not 'again'": lambda it: it.once("a", window=DAY, unknown="again"),
    "rate is a whole number from 1, not 0": lambda it: it.take("a", rate=0),
    "rate is a whole number from 1, not 0.5": lambda it: it.take("a", rate=0.5),
    "a rate is at most one a microsecond": lambda it: it.take("a", rate=1_000_001),
    "per is a timedelta, not 60": lambda it: it.take("a", rate=1, per=60),
    "n is a whole number from 1, not 0": lambda it: it.take("a", 0, rate=1),
    "n is at most the burst, which is 3: 4 would never be granted": lambda it: it.take("a", 4, rate=3),
    "a bucket fills within 3660 days": lambda it: it.take("a", rate=1, per=DAY, burst=3661),
    "most is a whole number from 1 to 1000, not 0": lambda it: it.cap("a", most=0, window=DAY),
    "most is a whole number from 1 to 1000, not 1001": lambda it: it.cap("a", most=1001, window=DAY),
}


@pytest.mark.parametrize("reason", BAD_CALLS)
def test_a_call_that_makes_no_sense_says_why(reason: str) -> None:
    with pytest.raises(InvalidArgument) as told:
        BAD_CALLS[reason](Limits("memory://"))
    assert reason in str(told.value)
    assert told.value.code == "invalid_argument"


@pytest.mark.parametrize("store", ["limits.db", "sqlite://", "nosuch://host/db", "redis://host:port", 7])
def test_a_store_that_cannot_keep_limits_is_refused(store: Any) -> None:
    with pytest.raises(BadLimits, match=r"cannot keep limits: .+"):
        Limits(store)


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:1/0", "postgresql+psycopg://u:secret@127.0.0.1:1/db"])
def test_a_store_that_does_not_answer_is_told_without_its_password(url: str) -> None:
    limits = Limits(url)
    with pytest.raises(LimitsUnreachable, match=r"127\.0\.0\.1:1") as told:
        limits.cap("a", most=1, window=DAY)
    assert "secret" not in str(told.value)
    assert told.value.code == "limits_unreachable"


def test_without_limits_of_an_app_once_says_where_they_are_given() -> None:
    with pytest.raises(NoLimits, match="Executor"):
        once("a", window=DAY)
    with using(Limits("memory://")):
        assert current_limits().cap("a", most=1, window=DAY)
    with pytest.raises(NoLimits):
        current_limits()


def test_an_app_takes_a_url_an_engine_or_limits_that_there_are() -> None:
    limits = Limits("memory://")
    assert Executor("group", limits=limits).limits is limits
    assert isinstance(Executor("group", limits="redis://127.0.0.1").limits, Limits)
    assert isinstance(Executor("group", limits=sa.create_engine("sqlite:///x.db")).limits, Limits)
    assert Executor("group").limits is None


@pytest.mark.parametrize("key", ["order-7", "k" * MAX_NAME])
def test_a_short_plain_key_is_kept_as_it_is(key: str) -> None:
    assert name_of(key) == key


def test_a_key_cannot_pass_for_the_hash_of_another_one() -> None:
    hashed = name_of("用户")
    assert hashed.startswith("sha256:")
    assert name_of(hashed) != hashed


def test_memory_forgets_what_has_expired() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    limits = Limits("memory://", now=clock)
    limits._store = store  # to look into it
    for _ in range(3):
        for start in range(0, PRUNE_EVERY, 5_000):
            limits.cap_all([f"{start + n}" for n in range(5_000)], most=3, window=SECOND)
        clock.now += 2 * SECOND
    assert len(store._states) <= PRUNE_EVERY
