"""A run's look at its promotion, with a clock that the test sets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.marketing.fanout.following import IN_PLACE_SECONDS, LOOK_SECONDS, REST_SECONDS, RESTED, Course
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import Verb
from examples.marketing.settings import Settings
from examples.marketing.shop import Shop, opened
from examples.marketing.store import promotions
from shardcast import Cancelled, Fail, Skip
from tests.support.promoting import START, an_order


class Clock:
    """Passes when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(Settings(database=f"sqlite:///{tmp_path / 'shop.db'}"), lambda: START) as shop:
        yield shop


@pytest.fixture
def promotion(shop: Shop) -> Promotion:
    with shop.database.writing() as connection:
        saved = promotions.save(connection, an_order(START), save_id="a", now_ms=0)
        return promotions.move(connection, saved.id, Verb.LAUNCH, reason="", now_ms=0)


def move(shop: Shop, promotion: Promotion, verb: Verb) -> None:
    with shop.database.writing() as connection:
        promotions.move(connection, promotion.id, verb, reason="", now_ms=0)


def course(shop: Shop, promotion_id: int, clock: Clock, check: object = lambda: None) -> Course:
    return Course(shop, promotion_id, check, monotonic=clock.now, sleep=clock.sleep)  # type: ignore[arg-type]


def test_a_change_is_seen_after_half_a_second_and_not_asked_for_before(shop: Shop, promotion: Promotion) -> None:
    clock = Clock()
    following = course(shop, promotion.id, clock)
    move(shop, promotion, Verb.CANCEL)
    clock.seconds += LOOK_SECONDS / 2
    following.go_on()
    clock.seconds += LOOK_SECONDS / 2
    with pytest.raises(Skip, match="cancelled"):
        following.go_on()


def test_what_rests_is_waited_for_until_it_goes_on(shop: Shop, promotion: Promotion) -> None:
    clock, checks = Clock(), []
    move(shop, promotion, Verb.PAUSE)

    def check() -> None:
        checks.append(clock.seconds)
        if len(checks) == 3:
            move(shop, promotion, Verb.RESUME)

    assert course(shop, promotion.id, clock, check).go_on().state.value == "running"
    assert clock.slept == [REST_SECONDS] * 3


def test_what_rests_for_long_is_left(shop: Shop, promotion: Promotion) -> None:
    clock = Clock()
    move(shop, promotion, Verb.PAUSE)
    with pytest.raises(Fail, match=RESTED):
        course(shop, promotion.id, clock).go_on()
    assert sum(clock.slept) == pytest.approx(IN_PLACE_SECONDS, abs=REST_SECONDS)


def test_an_attempt_that_is_to_stop_waits_no_longer(shop: Shop, promotion: Promotion) -> None:
    move(shop, promotion, Verb.PAUSE)

    def check() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        course(shop, promotion.id, Clock(), check).go_on()


def test_no_such_promotion_is_final(shop: Shop) -> None:
    with pytest.raises(Fail, match="no promotion 999"):
        course(shop, 999, Clock())
