"""The push consumer: what comes of a batch of push messages, in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

import structlog
from sqlalchemy.exc import OperationalError

from examples.marketing.delivery.decisions import (
    LEAST_DEFERRAL,
    WAIT,
    Decision,
    Defer,
    Deliver,
    Drop,
    Park,
    Unknown,
    View,
    Wait,
    decide,
)
from examples.marketing.delivery.desk import Desk, the_desk
from examples.marketing.delivery.ledger import Ledger, fitting
from examples.marketing.delivery.reading import Letters, Mail
from examples.marketing.delivery.sending import Messages, Sender
from examples.marketing.promotions.model import Promotion, to_ms
from examples.marketing.promotions.states import State
from examples.marketing.topics import PARKED
from shardcast import Depends, Handled, Limits, ReceivedMessage, ShardcastError

log = structlog.get_logger(__name__)

GRANTS_A_SECOND = 4
"""A promotion with a rate gets its messages in so many portions a second."""


@dataclass(frozen=True, slots=True)
class Planned:
    letters: Letters
    promotion: Promotion | None
    decision: Decision


def deliver(messages: list[ReceivedMessage], desk: Annotated[Desk, Depends(the_desk)]) -> Handled:
    """Delivers what may be delivered now. What it leads to, and the numbers, are published in one step with how far the
    queue is read; while the database is away nothing is handled, and nothing fails."""
    try:
        return _delivered(fitting(messages), desk, desk.shop.clock())
    except OperationalError as error:
        reason = str(error.orig)
    except ShardcastError as error:
        if error.code not in ("limits_unreachable", "claim_held"):
            raise
        reason = str(error)
    log.warning("delivery has to wait", action="delivery_waits", error=reason)
    return Handled(0, after=WAIT)


def _delivered(messages: Messages, desk: Desk, now: datetime) -> Handled:
    mail = desk.reader.read([each.body for each in messages])
    planned = _plan(mail, messages, desk, now)
    waits = [each.decision.after for each in planned if isinstance(each.decision, Wait)]
    if planned and len(waits) == len(planned) and not mail.unreadable:
        return Handled(0, after=min(waits))
    count, after = _granted(planned, len(messages), desk.shop.limits)
    if not count:
        return Handled(0, after=after)
    ledger = Ledger(now)
    sender = Sender(desk, messages, ledger, now)
    planned = [replace(each, letters=each.letters.before(count)) for each in planned]
    going = [_within_cap(each, sender) for each in planned if isinstance(each.decision, Deliver)]
    for letters in going:  # when all that needs the database is done
        sender.send(letters)
    for each in planned:
        _put_aside(each, messages, ledger, now)
    for index, reason in mail.unreadable.items():
        if index < count:
            ledger.lost(messages[index], reason)
    return Handled(count, ledger.messages, after)


def _plan(mail: Mail, messages: Messages, desk: Desk, now: datetime) -> Sequence[Planned]:
    watched = desk.watch.look({each.message.promotion_id for each in mail.letters}, now)
    planned = []
    for letters in mail.letters:
        channel, promotion = letters.message.inform_type, watched.promotions.get(letters.message.promotion_id)
        view = View(
            now,
            messages[0].topic == PARKED,
            _entered_ms(messages[letters.indexes[0]]),
            watched.resumed_ms,
            desk.providers[channel].rest(now),
            bool(watched.channels - {channel}),
        )
        planned.append(Planned(letters, promotion, decide(promotion, view)))
    return planned


def _granted(planned: Sequence[Planned], count: int, limits: Limits) -> tuple[int, timedelta]:
    """How many of the first messages the rates let through, and when to ask for the next ones: a queue keeps its order,
    so the first message that has to wait holds back all behind it."""
    after = timedelta(0)
    for each in planned:
        rate = each.promotion.order.steering.rate if each.promotion else None
        asking = each.letters.before(count).indexes
        if rate is None or not asking or not isinstance(each.decision, Deliver):
            continue
        portion = max(1, rate // GRANTS_A_SECOND)
        wanted = min(len(asking), portion)
        wait = limits.take(f"promotion:{each.letters.message.promotion_id}", wanted, rate=rate, burst=portion)
        if wait:
            count, after = asking[0], wait
        elif wanted < len(asking):
            count, after = asking[wanted], timedelta(0)
    return count, after


def _within_cap(planned: Planned, sender: Sender) -> Letters:
    cap = planned.promotion.order.steering.cap if planned.promotion else None
    return planned.letters if cap is None else sender.within(cap, planned.letters)


def _put_aside(planned: Planned, messages: Messages, ledger: Ledger, now: datetime) -> None:
    letters, promotion, decision = planned.letters, planned.promotion, planned.decision
    found = [] if isinstance(decision, Deliver) else [messages[index] for index in letters.indexes]
    if not found:
        return
    match decision:
        case Drop():
            ledger.dropped(letters.message.promotion_id, found)
        case Defer(until):
            ledger.deferred(found, until)
        case Wait() if promotion is not None and promotion.state is State.RUNNING:
            ledger.deferred(found, now + LEAST_DEFERRAL)  # it would be parked behind those of promotions that rest
        case Wait():
            ledger.parked(found, None)
        case Park(until):
            ledger.parked(found, until)
        case Unknown(reason):
            for message in found:
                ledger.lost(message, reason)


def _entered_ms(message: ReceivedMessage) -> int:
    """When it got to where it stands."""
    due_ms = to_ms(message.deliver_at) if message.deliver_at else 0
    return max(message.published_at_ms, due_ms)
