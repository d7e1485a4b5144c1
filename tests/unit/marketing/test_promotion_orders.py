"""What is refused when somebody asks to save a promotion."""

from datetime import UTC, datetime, time

import pytest
from pydantic import ValidationError

from examples.marketing.delivery.reading import Reader
from examples.marketing.fanout.hot_goods import HotGoodsParams, order_of
from examples.marketing.messages import MAX_BYTES, MOST_ID
from examples.marketing.promotions.model import CouponOrder, QuietHours
from tests.support.marketing import NOW, order


@pytest.mark.parametrize("text", ["€" * 2_000, "\U0001f600" * 1_600, '"' * 2_000])
def test_every_message_that_may_be_saved_can_be_read_by_those_who_deliver_it(text: str) -> None:
    sent = order(message=text).message_of(MOST_ID).to(-MOST_ID)
    assert not Reader().read([sent.body]).unreadable


@pytest.mark.parametrize("text", ["\U0001f600" * 2_000, "a" + "\x01" * 1_998 + "a"])
def test_a_message_that_nobody_would_deliver_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=f"{MAX_BYTES} is the limit"):
        order(message=text, main_message="\U0001f600" * 200)


@pytest.mark.parametrize(("begin", "end"), [("22:00Z", "08:00"), ("22:00", "08:00+02:00"), ("22:00Z", "08:00Z")])
def test_quiet_hours_are_told_by_the_clock_of_their_zone_alone(begin: str, end: str) -> None:
    with pytest.raises(ValidationError, match="without an offset"):
        QuietHours.model_validate({"begin": begin, "end": end, "zone": "Asia/Shanghai"})
    assert QuietHours.model_validate({"begin": "22:00", "end": "08:00", "zone": "UTC"}).begin == time(22)


def test_as_many_hot_goods_as_may_be_asked_for_fit_into_a_message_whatever_their_names_are() -> None:
    with pytest.raises(ValidationError):
        HotGoodsParams(products=11)
    made = order_of(HotGoodsParams(products=10), ["\U0001f600" * 100] * 10, datetime(2026, 12, 1, tzinfo=UTC))
    assert made.message.count(", ") == 9


def test_a_text_has_no_character_that_a_database_cannot_keep() -> None:
    with pytest.raises(ValidationError, match=r"main_message\n.*NUL"):
        order(main_message="half\0price")
    with pytest.raises(ValidationError, match=r"message\n.*NUL"):
        order(message="\0")
    with pytest.raises(ValidationError, match=r"name\n.*NUL"):
        CouponOrder(name="5\0", value_cents=1, stock=1, expires_at=NOW)
