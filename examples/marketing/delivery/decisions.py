"""What is to become of a promotion's messages now: plain decisions, without a look at anything else."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from examples.marketing.promotions.model import Promotion, QuietHours, to_ms
from examples.marketing.promotions.states import State

BEHIND_MS = 30_000
"""Processes that have not yet heard that a promotion goes on may park messages of it for less than this."""
WAIT = timedelta(seconds=1)
LEAST_DEFERRAL = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Deliver:
    """To its channel's provider, as far as rate and frequency cap allow."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The promotion has ended, or is over by now."""


@dataclass(frozen=True, slots=True)
class Defer:
    """They come again then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """They stay where they are: nothing that may go on stands behind them."""

    after: timedelta = WAIT


@dataclass(frozen=True, slots=True)
class Park:
    """They go aside, so that what stands behind them comes through; and stay out of the way until then."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say what they are for."""

    reason: str


Decision = Deliver | Drop | Defer | Wait | Park | Unknown


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is taken from, beside the promotion. `now` is aware UTC.

    `entered_ms` is when the oldest of the messages got to where it stands. `resumed_ms` is when the last one of the
    promotions that run now began or went on; None: none runs. `rest` is how long the provider is to be left alone, and
    `has_other_channels` whether a promotion runs whose messages go to another one.
    """

    now: datetime
    is_parked: bool
    entered_ms: int
    resumed_ms: int | None
    rest: timedelta = timedelta(0)
    has_other_channels: bool = False


def decide(promotion: Promotion | None, view: View) -> Decision:
    if promotion is None:
        return Unknown("unknown promotion")
    match promotion.state:
        case State.SAVED:
            return Unknown("its promotion is not launched")
        case State.COMPLETED | State.CANCELLED:
            return Drop()
        case State.PAUSED | State.HELD:
            return _rested(view)
        case State.RUNNING if promotion.order.ends_at <= view.now:
            return Drop()
        case State.RUNNING:
            return _delivered(promotion.order.steering.quiet, view)


def _rested(view: View) -> Decision:
    if view.resumed_ms is None:
        return Wait()
    if not view.is_parked:
        return Park()
    heard_ms = view.resumed_ms + BEHIND_MS
    if view.entered_ms >= heard_ms:
        return Wait()
    return Park(datetime.fromtimestamp(heard_ms / 1000, view.now.tzinfo))


def _delivered(quiet: QuietHours | None, view: View) -> Decision:
    if quiet is not None and (until := quiet_until(quiet, view.now)) is not None:
        return Defer(until)
    if not view.rest:
        return Deliver()
    if view.has_other_channels:
        return Defer(view.now + max(view.rest, LEAST_DEFERRAL))
    return Wait(min(view.rest, WAIT))


def quiet_until(quiet: QuietHours, now: datetime) -> datetime | None:
    """When the quiet hours that it is in at `now` end, aware UTC; None: it is in none.

    Of a time that the zone's clock shows twice in a night, quiet hours begin with the first one and end with the second
    one; a time that the clock leaves out is that much behind the hour before it.
    """
    zone, today = quiet.tz, now.astimezone(quiet.tz).date()
    for day in (today - timedelta(days=1), today):
        last = day if quiet.begin < quiet.end else day + timedelta(days=1)
        begin = datetime.combine(day, quiet.begin.replace(fold=0), zone)
        ends = (datetime.combine(last, quiet.end.replace(fold=fold), zone) for fold in (0, 1))
        end_ms = max(map(to_ms, ends))
        if to_ms(begin) <= now.timestamp() * 1000 < end_ms:
            return datetime.fromtimestamp(end_ms / 1000, now.tzinfo)
    return None
