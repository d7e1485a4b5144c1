"""A promotion that was saved sets out, at its time: to the bucket listener, or to the job whose shards send it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from sqlalchemy import Connection

from examples.marketing.errors import NotFound
from examples.marketing.fanout import buckets, runs
from examples.marketing.fanout.reading import bucket_message, later, read
from examples.marketing.messages import Phase, PromotionSaved, UserBucket
from examples.marketing.personas import audience
from examples.marketing.promotions.model import Promotion
from examples.marketing.promotions.states import State, Verb
from examples.marketing.shop import Shop, the_shop
from examples.marketing.store import launches, promotions
from examples.marketing.topics import PROMOTION_SAVED
from shardcast import Depends, Fail, Message, ReceivedMessage, ShardcastError

LONGEST_DELAY = timedelta(days=7) - timedelta(hours=1)
"""The broker takes no message for later than in seven days; clocks may differ."""

NOBODY = "the audience is nobody"

AWAY = ("unreachable", "timed_out")
"""What is said of an admin that is away: it is waited for."""

ASK_AGAIN = timedelta(seconds=2)


def launch(message: ReceivedMessage, shop: Annotated[Shop, Depends(the_shop)]) -> Sequence[Message] | Message:
    """What the event leads to: itself again until the promotion's time has come, then its first buckets.

    Raises Fail for what is no event of a promotion, and what the admin refuses or the database.
    """
    event = read(PromotionSaved, message)
    with shop.database.writing() as connection:
        promotion = _promotion_of(connection, event)
        if not is_due_to(promotion, event):
            return []
        if event.send_at_ms > shop.now_ms:
            return later(message, PROMOTION_SAVED, _again_at(event, shop), {})
        is_first = promotions.claim_launch(connection, promotion.id, event.phase, message.message_id)
        if _has_a_run(connection, promotion) or not (is_first or promotion.goes_by_shards):
            return []
        promotion = _begin(connection, promotion, shop.now_ms)
    if promotion.state.is_final:
        return []
    if not promotion.goes_by_shards:
        return [*map(bucket_message, buckets.split(_whole(event)))]
    try:
        _send_by_shards(shop, promotion, event.phase)
    except ShardcastError as error:
        if runs.code_of(error) in AWAY:
            return later(message, PROMOTION_SAVED, shop.clock() + ASK_AGAIN, {})
        raise
    return []


def is_due_to(promotion: Promotion, event: PromotionSaved) -> bool:
    """Whether the event is about the promotion as it is now: not about an older version, nor a phase it is not in."""
    if event.version != promotion.version or promotion.state.is_final:
        return False
    return event.phase is promotion.phase


def _promotion_of(connection: Connection, event: PromotionSaved) -> Promotion:
    try:
        return promotions.get(connection, event.promotion_id, to_change=True)  # it may be saved anew meanwhile
    except NotFound as error:
        raise Fail(str(error)) from error


def _has_a_run(connection: Connection, promotion: Promotion) -> bool:
    """Where it has none, any event starts it: the first one may have become a dead letter, and comes as another one
    when it is resent."""
    return promotion.goes_by_shards and launches.run_of(connection, promotion.id, promotion.phase) is not None


def _again_at(event: PromotionSaved, shop: Shop) -> datetime:
    longest_ms = shop.now_ms + LONGEST_DELAY // timedelta(milliseconds=1)
    return datetime.fromtimestamp(min(event.send_at_ms, longest_ms) / 1000, UTC)


def _begin(connection: Connection, promotion: Promotion, now_ms: int) -> Promotion:
    """Its second phase finds it running already, and so does an event that comes again after a crash."""
    if promotion.state is State.SAVED:
        promotion = promotions.move(connection, promotion.id, Verb.LAUNCH, reason="", now_ms=now_ms)
    if promotion.first_id > promotion.last_id:
        promotion = _complete(connection, promotion, now_ms)
    return promotion


def _complete(connection: Connection, promotion: Promotion, now_ms: int) -> Promotion:
    return promotions.move(connection, promotion.id, Verb.COMPLETE, reason=NOBODY, now_ms=now_ms)


def _whole(event: PromotionSaved) -> UserBucket:
    return UserBucket(
        promotion_id=event.promotion_id, phase=event.phase, first_id=event.first_id, last_id=event.last_id
    )


def _send_by_shards(shop: Shop, promotion: Promotion, phase: Phase) -> None:
    """Each step may be done again, by the same event when it comes again."""
    condition = promotion.order.audience
    is_for_nobody = condition and not audience.freeze(shop.database, promotion.id, condition, shop.clock())
    if is_for_nobody and _is_over(shop, promotion.id):
        return
    run_id = runs.start_sending(shop, promotion.id, phase)
    with shop.database.writing() as connection:
        launches.claim_run(connection, promotion.id, phase, run_id)


def _is_over(shop: Shop, promotion_id: int) -> bool:
    """Of one for nobody. One that rests by now is over when it goes on, and its run has found nobody."""
    with shop.database.writing() as connection:
        promotion = promotions.get(connection, promotion_id, to_change=True)
        if promotion.state is State.RUNNING:
            promotion = _complete(connection, promotion, shop.now_ms)
        return promotion.state.is_final
