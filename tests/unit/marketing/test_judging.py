from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from examples.marketing.messages import InformType, Phase, PromotionType
from examples.marketing.promotions.model import Canary, Promotion, PromotionOrder, Steering
from examples.marketing.promotions.states import State
from examples.marketing.steering.judging import WAIT, Action, FanOut, Judgement, judge
from examples.marketing.store.progress import Counts

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ORDER = PromotionOrder(
    promotion_type=PromotionType.PLATFORM_PROMOTION,
    main_message="Half price",
    message="Today only",
    inform_type=InformType.APP_PUSH,
    starts_at=NOW,
    ends_at=NOW + timedelta(days=1),
)
PLAIN = Promotion(1, 1, ORDER, State.RUNNING, Phase.REST, 1, 1_000, "", 0, 0, None)
WITH_CANARY = replace(
    PLAIN, order=ORDER.model_copy(update={"steering": Steering(canary=Canary(share=0.1, hold_above=0.05))})
)
CANARY = replace(WITH_CANARY, phase=Phase.CANARY)
ALL_WELL = Counts(covered=1_000, published=100, delivered=100)
COMPLETE, TO_REST, LAUNCH_REST = (Judgement(each) for each in (Action.COMPLETE, Action.GO_TO_REST, Action.LAUNCH_REST))
HOLD = Judgement(Action.HOLD, "6 of 100 canaries failed, 6.0%, more than 5.0%")
PAUSE = Judgement(Action.PAUSE, "run r1 did not succeed: retry it, then resume")
FORGOTTEN = Judgement(
    Action.PAUSE, "run r1 is not kept any more, and nobody knows whom it did not reach: cancel the promotion"
)

CASES = {
    "not launched yet": (PLAIN, Counts(), FanOut.MISSING, WAIT),
    "canaries not launched yet": (CANARY, Counts(), FanOut.MISSING, WAIT),
    "the rest not launched yet": (WITH_CANARY, Counts(), FanOut.MISSING, LAUNCH_REST),
    "still going out": (PLAIN, ALL_WELL, FanOut.UNDER_WAY, WAIT),
    "out, not all handled": (PLAIN, Counts(published=100, delivered=99), FanOut.DONE, WAIT),
    "all delivered": (PLAIN, ALL_WELL, FanOut.DONE, COMPLETE),
    "all failed": (PLAIN, Counts(published=100, failed=100), FanOut.DONE, COMPLETE),
    "each in another way": (
        PLAIN,
        Counts(published=100, delivered=40, dropped=30, capped=20, failed=10),
        FanOut.DONE,
        COMPLETE,
    ),
    "nobody was meant": (PLAIN, Counts(covered=1_000), FanOut.DONE, COMPLETE),
    "handled before it was counted as published": (PLAIN, Counts(delivered=3), FanOut.DONE, COMPLETE),
    "canaries still going out": (CANARY, ALL_WELL, FanOut.UNDER_WAY, WAIT),
    "canaries not all handled": (CANARY, Counts(published=100, failed=99), FanOut.DONE, WAIT),
    "canaries well": (CANARY, ALL_WELL, FanOut.DONE, TO_REST),
    "canaries just well enough": (CANARY, Counts(published=100, delivered=95, failed=5), FanOut.DONE, TO_REST),
    "canaries not well enough": (CANARY, Counts(published=100, delivered=94, failed=6), FanOut.DONE, HOLD),
    "no canaries among them": (CANARY, Counts(covered=1_000), FanOut.DONE, TO_REST),
    "a failure of somebody who is no canary": (CANARY, Counts(covered=1_000, failed=1), FanOut.DONE, TO_REST),
    "the rest, after all": (WITH_CANARY, Counts(published=100, failed=100), FanOut.DONE, COMPLETE),
    "its run failed": (PLAIN, ALL_WELL, FanOut.BROKEN, PAUSE),
    "the canaries' run failed": (CANARY, ALL_WELL, FanOut.BROKEN, PAUSE),
    "its run is forgotten": (PLAIN, ALL_WELL, FanOut.FORGOTTEN, FORGOTTEN),
    "its run has rested": (PLAIN, Counts(), FanOut.RESTED, Judgement(Action.RETRY, "r1")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of_a_promotion(name: str) -> None:
    promotion, counts, fan_out, expected = CASES[name]
    assert judge(promotion, counts, fan_out, "r1") == expected


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
@pytest.mark.parametrize("fan_out", list(FanOut))
def test_one_that_does_not_run_is_left_alone(state: State, fan_out: FanOut) -> None:
    for promotion in (PLAIN, CANARY, WITH_CANARY):
        assert judge(replace(promotion, state=state), ALL_WELL, fan_out) == WAIT
