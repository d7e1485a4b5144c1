from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.marketing.api.samples import Samples
from examples.marketing.messages import InformType, Phase, PromotionType
from examples.marketing.promotions.model import Promotion, PromotionOrder, Way
from examples.marketing.promotions.states import State
from examples.marketing.steering.outlook import Outlook, Sample, expected, outlook
from examples.marketing.store.progress import Counts

NOW = datetime(2026, 12, 1, tzinfo=UTC)
PROMOTION = Promotion(
    id=1,
    version=1,
    order=PromotionOrder(
        promotion_type=PromotionType.PLATFORM_PROMOTION,
        main_message="Half price",
        message="Today only",
        inform_type=InformType.APP_PUSH,
        starts_at=NOW,
        ends_at=NOW + timedelta(days=1),
    ),
    state=State.RUNNING,
    phase=Phase.REST,
    first_id=1,
    last_id=1_000,
    reason="",
    resumed_at_ms=0,
    launched_at_ms=0,
    ended_at_ms=None,
)


def counts(covered: int = 0, published: int = 0) -> dict[Phase, Counts]:
    return {Phase.CANARY: Counts(), Phase.REST: Counts(covered=covered, published=published)}


def test_what_was_done_in_a_while_tells_when_the_rest_will_be() -> None:
    assert outlook(Sample(1_000, 100), Sample(3_000, 300), 1_000) == Outlook(0.3, 100.0, 7.0)


@pytest.mark.parametrize(
    ("before", "now", "total", "share"),
    [
        (Sample(0, 0), Sample(0, 0), 10, 0.0),  # no time has passed
        (Sample(0, 5), Sample(9, 5), 10, 0.5),  # nothing has moved
        (Sample(9, 9), Sample(0, 5), 10, 0.5),  # a clock was set back
        (Sample(0, 0), Sample(9, 0), 0, 1.0),  # nobody is meant
        (Sample(0, 0), Sample(9, 10), 10, 1.0),
        (Sample(0, 0), Sample(9, 11), 10, 1.0),
    ],
)
def test_where_nothing_moves_or_nothing_is_left_there_is_no_time_to_tell(
    before: Sample, now: Sample, total: int, share: float
) -> None:
    seen = outlook(before, now, total)
    assert (seen.share, seen.eta_seconds) == (share, None)


@given(before=st.builds(Sample, *[st.integers(0, 10**9)] * 2), now=st.builds(Sample, *[st.integers(0, 10**9)] * 2))
def test_a_share_is_a_share_and_a_rate_no_less_than_nothing(before: Sample, now: Sample) -> None:
    seen = outlook(before, now, 10**6)
    assert 0 <= seen.share <= 1
    assert seen.rate >= 0


@pytest.mark.parametrize(
    ("promotion", "told", "wanted"),
    [
        (PROMOTION, counts(), 1_000),  # as many as there are ids
        (PROMOTION, counts(covered=999, published=700), 1_000),
        (PROMOTION, counts(covered=1_000, published=700), 700),  # there are gaps between the ids
        (replace(PROMOTION, audience_size=40), counts(published=3), 40),
        (replace(PROMOTION, audience_size=40), counts(published=50), 50),  # some were sent again
        (replace(PROMOTION, state=State.COMPLETED, audience_size=40), counts(published=30), 30),
        (replace(PROMOTION, first_id=0, last_id=-1), counts(), 0),
        (
            replace(PROMOTION, order=PROMOTION.order.model_copy(update={"way": Way.SHARDS})),
            counts(covered=1_000, published=700),
            1_000,
        ),
    ],
)
def test_how_many_messages_are_expected(promotion: Promotion, told: dict[Phase, Counts], wanted: int) -> None:
    assert expected(promotion, told) == wanted


def test_a_rate_is_that_of_the_last_ten_seconds_in_which_somebody_asked() -> None:
    samples, first = Samples(), Sample(0, 0)
    seen = [samples.before(1, Sample(at_ms, at_ms), first).at_ms for at_ms in range(1_000, 31_000, 1_000)]
    assert seen[:3] == [0, 1_000, 1_000]
    assert seen[-1] == 20_000
    assert samples.before(2, Sample(31_000, 0), first) == first, "promotions do not see each other"


def test_of_promotions_that_nobody_asks_for_any_more_nothing_is_kept() -> None:
    samples = Samples()
    for promotion_id in range(1_001):
        samples.before(promotion_id, Sample(1_000, 0), Sample(0, 0))
    assert samples.before(1_000, Sample(2_000, 0), Sample(0, 0)) == Sample(1_000, 0)
    assert samples.before(0, Sample(2_000, 0), Sample(0, 0)) == Sample(0, 0)
