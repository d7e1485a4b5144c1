"""What is to become of a promotion that is under way: decided from what is known of it, nothing is done here."""

from dataclasses import dataclass
from enum import StrEnum

from examples.marketing.messages import Phase
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import State
from examples.marketing.store.progress import Counts


class FanOut(StrEnum):
    """How far the fan-out of a phase is. Of several runs the first of these counts that one of them is."""

    MISSING = "missing"  # it was not launched yet
    RESTED = "rested"  # a run gave up because the promotion rested
    BROKEN = "broken"  # a run failed
    FORGOTTEN = "forgotten"  # the admin keeps a run no more, and nobody saw that it succeeded
    UNDER_WAY = "under_way"
    DONE = "done"


class Action(StrEnum):
    WAIT = "wait"
    HOLD = "hold"
    PAUSE = "pause"
    RETRY = "retry"
    GO_TO_REST = "go_to_rest"
    LAUNCH_REST = "launch_rest"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`reason` of a retry is the run."""

    action: Action
    reason: str = ""


WAIT = Judgement(Action.WAIT)


def judge(promotion: Promotion, counts: Counts, fan_out: FanOut, run_id: str = "") -> Judgement:
    """`counts` and `fan_out` are those of the promotion's phase; `run_id` is the run that has rested, is broken or
    forgotten."""
    if promotion.state is not State.RUNNING:
        return WAIT
    match fan_out:
        case FanOut.MISSING if promotion.phase is Phase.REST and promotion.order.steering.canary is not None:
            return Judgement(Action.LAUNCH_REST)
        case FanOut.RESTED:
            return Judgement(Action.RETRY, run_id)
        case FanOut.BROKEN:
            return Judgement(Action.PAUSE, f"run {run_id} did not succeed: retry it, then resume")
        case FanOut.FORGOTTEN:
            told = f"run {run_id} is not kept any more, and nobody knows whom it did not reach: cancel the promotion"
            return Judgement(Action.PAUSE, told)
        case FanOut.DONE if counts.handled >= counts.published:
            return _judge_sent(promotion, counts)
        case _:
            return WAIT


def _judge_sent(promotion: Promotion, counts: Counts) -> Judgement:
    """All that this phase led to has come to an end."""
    canary = promotion.order.steering.canary
    if promotion.phase is Phase.REST:
        return Judgement(Action.COMPLETE)
    if canary is not None and counts.published and counts.failed > canary.hold_above * counts.published:
        share = counts.failed / counts.published
        told = f"{counts.failed} of {counts.published} canaries failed, {share:.1%}, more than {canary.hold_above:.1%}"
        return Judgement(Action.HOLD, told)
    return Judgement(Action.GO_TO_REST)
