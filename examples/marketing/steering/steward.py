"""Sees to it, every second, that promotions under way get on: from canaries to the rest, on hold, to their end."""

from collections.abc import Sequence
from typing import Annotated

from examples.marketing.errors import WrongState
from examples.marketing.fanout import runs
from examples.marketing.messages import Phase, PromotionSaved
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import State, Verb
from examples.marketing.shop import Shop, the_shop
from examples.marketing.steering.judging import Action, FanOut, Judgement, judge
from examples.marketing.store import launches, progress, promotions
from examples.marketing.store.progress import Counts, Source
from examples.marketing.topics import PROMOTION_SAVED
from shardcast import Context, Depends, Message, ShardcastError

SUCCEEDED = "succeeded"


def steward(context: Context, shop: Annotated[Shop, Depends(the_shop)]) -> dict[str, int]:
    """The job marketing-steward: one round; how many promotions it did what with. What cannot be done now is left to
    the next round."""
    with shop.database.reading() as connection:
        running = [each for each in promotions.under_way(connection) if each.state is State.RUNNING]
    done: dict[str, int] = {}
    events: list[Message] = []
    for promotion in running:
        try:
            action, event = _see_to(shop, promotion)
        except WrongState as error:  # somebody was quicker
            context.log.info("%s", error)
            continue
        except ShardcastError as error:
            context.log.warning("promotion %s is left for now: %s", promotion.id, error)
            continue
        events += event
        if action is not Action.WAIT:
            done[action.value] = done.get(action.value, 0) + 1
    if events:
        with context.publisher(PROMOTION_SAVED) as publisher:
            publisher.publish(events)
    return done


def _see_to(shop: Shop, promotion: Promotion) -> tuple[Action, Sequence[Message]]:
    """What was done, and the events that follow from it. Raises WrongState, and what the admin refuses."""
    judgement = _judged(shop, promotion)
    match judgement.action:
        case Action.HOLD:
            _move(shop, promotion, Verb.HOLD, judgement)
        case Action.PAUSE:
            _move(shop, promotion, Verb.PAUSE, judgement)
        case Action.COMPLETE if not _is_completed(shop, promotion):
            return Action.WAIT, ()
        case Action.RETRY:
            runs.retry(shop, judgement.reason)
        case Action.GO_TO_REST:
            with shop.database.writing() as connection:
                promotions.go_to_rest(connection, promotion.id)
            return judgement.action, [rest_of(promotion)]
        case Action.LAUNCH_REST:  # an event that was lost; where it was not, one of the two does nothing
            return judgement.action, [rest_of(promotion)]
    return judgement.action, ()


def rest_of(promotion: Promotion) -> Message:
    """The event that its second phase begins with."""
    event = PromotionSaved(
        promotion_id=promotion.id,
        version=promotion.version,
        phase=Phase.REST,
        first_id=promotion.first_id,
        last_id=promotion.last_id,
        send_at_ms=0,
    )
    return Message(event.model_dump_json().encode(), key=str(promotion.id))


def _judged(shop: Shop, promotion: Promotion) -> Judgement:
    with shop.database.reading() as connection:
        is_launched = launches.is_launched(connection, promotion.id, promotion.phase)
        sending = launches.run_of(connection, promotion.id, promotion.phase)
        unsent = launches.unsent(connection, promotion.id)
        counts = progress.of(connection, promotion.id)[promotion.phase]
    found = {run_id: runs.find(shop, run_id) for run_id in unsent}
    if (run := found.get(sending or "")) is not None:
        counts = _counted(shop, promotion, run)
    seen = {by_run(run): run_id for run_id, run in found.items()}
    if sent := [run_id for run_id, run in found.items() if run is not None and run.state == SUCCEEDED]:
        with shop.database.writing() as connection:
            launches.note_sent(connection, sent)
    seen.setdefault(FanOut.DONE, "")
    if not is_launched:
        seen[FanOut.MISSING] = ""
    elif not promotion.goes_by_shards:
        seen.setdefault(by_buckets(promotion, counts), "")
    elif sending is None:
        seen[FanOut.UNDER_WAY] = ""
    fan_out = next(each for each in FanOut if each in seen)
    return judge(promotion, counts, fan_out, seen[fan_out])


def _counted(shop: Shop, promotion: Promotion, run: runs.Run) -> Counts:
    """With what the run has published by now."""
    with shop.database.writing() as connection:
        source = Source(promotion.id, promotion.phase, f"run/{run.id}")
        progress.set_published(connection, source, run.published)
        return progress.of(connection, promotion.id)[promotion.phase]


def by_buckets(promotion: Promotion, counts: Counts) -> FanOut:
    width = promotion.last_id - promotion.first_id + 1
    return FanOut.DONE if counts.covered >= width else FanOut.UNDER_WAY


def by_run(run: runs.Run | None) -> FanOut:
    """None: the admin has forgotten it."""
    if run is None:
        return FanOut.FORGOTTEN
    if run.state == SUCCEEDED:
        return FanOut.DONE
    if not run.is_ended:
        return FanOut.UNDER_WAY
    return FanOut.RESTED if run.has_rested else FanOut.BROKEN


def _is_completed(shop: Shop, promotion: Promotion) -> bool:
    """Not where a resend took failures since it was judged: those are still to come, and would be dropped."""
    with shop.database.writing() as connection:
        promotions.get(connection, promotion.id, to_change=True)
        counts = progress.of(connection, promotion.id)[promotion.phase]
        if counts.handled < counts.published:
            return False
        promotions.move(connection, promotion.id, Verb.COMPLETE, reason="", now_ms=shop.now_ms)
        return True


def _move(shop: Shop, promotion: Promotion, verb: Verb, judgement: Judgement) -> None:
    with shop.database.writing() as connection:
        promotions.move(connection, promotion.id, verb, reason=judgement.reason, now_ms=shop.now_ms)
