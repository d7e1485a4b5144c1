"""What somebody may do to a promotion. What needs the admin raises Unreachable or TimedOut while it is away."""

import logging
from datetime import datetime

from sqlalchemy import Connection

from examples.marketing.errors import BadRequest, NothingToResend, WrongState
from examples.marketing.fanout import runs
from examples.marketing.promotions.model import Promotion, Steering
from examples.marketing.promotions.states import State, Verb
from examples.marketing.shop import Shop
from examples.marketing.store import launches, promotions, resends
from shardcast import ShardcastError

log = logging.getLogger(__name__)


def pause(shop: Shop, promotion_id: int) -> Promotion:
    """Raises NotFound or WrongState."""
    return _moved(shop, promotion_id, Verb.PAUSE)


def resume(shop: Shop, promotion_id: int) -> Promotion:
    """Raises NotFound or WrongState."""
    return _moved(shop, promotion_id, Verb.RESUME)


def cancel(shop: Shop, promotion_id: int) -> Promotion:
    """Its runs are cancelled where the admin can be asked; they would see it by themselves, a moment later.

    Raises NotFound or WrongState.
    """
    cancelled = _moved(shop, promotion_id, Verb.CANCEL)
    with shop.database.reading() as connection:
        run_ids = launches.unsent(connection, promotion_id)
    for run_id in run_ids:
        try:
            runs.cancel(shop, run_id)
        except ShardcastError as error:  # it has ended, or nobody can tell
            log.info("run %s of promotion %s is not cancelled: %s", run_id, promotion_id, error)
    return cancelled


def resend(shop: Shop, promotion_id: int) -> tuple[Promotion, int]:
    """Sends those again that failed and were not sent again yet; the number of this resend.

    Where it raises once they are taken, or the process dies, calling it again starts the same resend.
    Raises NotFound, WrongState, NothingToResend, and what the admin refuses.
    """
    with shop.database.writing() as connection:
        promotion = promotions.get(connection, promotion_id, to_change=True)
        if promotion.state not in (State.RUNNING, State.COMPLETED):
            raise WrongState(promotion_id=promotion_id, state=promotion.state.value, verb="resend")
        number = resends.unstarted(connection, promotion_id) or _taken(connection, promotion, shop.clock())
        if promotion.state is State.COMPLETED:
            reason = f"resend {number}"
            promotion = promotions.move(connection, promotion_id, Verb.LAUNCH, reason=reason, now_ms=shop.now_ms)
    run_id = runs.start_resending(shop, promotion_id, number)
    with shop.database.writing() as connection:
        launches.claim_run(connection, promotion_id, resends.phase_of(number), run_id)
    return promotion, number


def steer(shop: Shop, promotion_id: int, changes: Steering) -> Promotion:
    """Changes those fields that are set, e.g. to None. Raises NotFound, WrongState, and BadRequest for the canary."""
    with shop.database.writing() as connection:
        promotion = promotions.get(connection, promotion_id, to_change=True)
        steering = promotion.order.steering
        wanted = steering.model_copy(update={name: getattr(changes, name) for name in changes.model_fields_set})
        if wanted.canary != steering.canary:
            raise BadRequest(reason="The canary decides who gets a promotion first: change it by saving the promotion.")
        return promotions.steer(connection, promotion_id, wanted)


def _taken(connection: Connection, promotion: Promotion, now: datetime) -> int:
    """Raises WrongState or NothingToResend."""
    if promotion.order.ends_at <= now:  # what was sent again would be dropped
        raise WrongState(promotion_id=promotion.id, state="over", verb="resend")
    number = resends.take(connection, promotion.id)
    if number is None:
        raise NothingToResend(promotion_id=promotion.id)
    return number


def _moved(shop: Shop, promotion_id: int, verb: Verb) -> Promotion:
    with shop.database.writing() as connection:
        return promotions.move(connection, promotion_id, verb, reason="", now_ms=shop.now_ms)
