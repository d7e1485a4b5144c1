"""What can be ordered of a promotion, beyond what the API's tests tell."""

from datetime import time, timedelta

import pytest
from pydantic import ValidationError

from examples.marketing.fanout.hot_goods import HotGoodsParams, order_of
from examples.marketing.promotions.model import CouponOrder, QuietHours
from tests.support.marketing import NOW, order


@pytest.mark.parametrize("offset", ["Z", "+08:00"])
def test_quiet_hours_are_times_of_their_zone_and_have_no_offset_of_their_own(offset: str) -> None:
    """One with an offset could not be compared with one that has none, amid the delivery."""
    with pytest.raises(ValidationError, match="without an offset of its own"):
        QuietHours.model_validate({"begin": f"22:00{offset}", "end": "08:00", "zone": "Asia/Shanghai"})
    with pytest.raises(ValidationError, match="without an offset of its own"):
        QuietHours.model_validate({"begin": "22:00", "end": f"08:00{offset}", "zone": "Asia/Shanghai"})
    quiet = QuietHours.model_validate({"begin": "22:00", "end": "08:00", "zone": "Asia/Shanghai"})
    assert (quiet.begin, quiet.end) == (time(22), time(8))


def test_a_text_has_no_character_that_a_database_cannot_keep() -> None:
    with pytest.raises(ValidationError, match=r"main_message\n.*NUL"):
        order(main_message="half\0price")
    with pytest.raises(ValidationError, match=r"message\n.*NUL"):
        order(message="\0")
    with pytest.raises(ValidationError, match=r"name\n.*NUL"):
        CouponOrder(name="5\0", value_cents=1, stock=1, expires_at=NOW)


def test_goods_with_long_names_make_a_message_of_the_greatest_length() -> None:
    made = order_of(HotGoodsParams(products=20), ["x" * 100] * 20, NOW)
    assert len(made.message) == 2_000
    assert made.ends_at - made.starts_at == timedelta(hours=12)
