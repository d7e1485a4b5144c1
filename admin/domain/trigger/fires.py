"""The instants that triggers name, the next one first: pure functions of the trigger and an instant."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import cycle, islice, pairwise, takewhile
from typing import assert_never

from admin.domain.errors import InvalidJob, NeverFires
from admin.domain.trigger.cron import compiled, last_year_of
from admin.domain.trigger.expression import FIRST_YEAR, LAST_YEAR
from admin.domain.trigger.fields import duration_text
from admin.domain.trigger.form import form_of_trigger
from admin.domain.trigger.kinds import After, AllOf, AnyOf, At, Cron, Dialect, Every, Manual, Timed, Trigger
from protos.errors import InvalidArgument

MAX_LEAPS = 3_000  # rules that have not agreed after so many steps from one to the other are said never to agree
MAX_PREVIEW_LEAPS = 10_000
GAPS = 20  # between fires to come, none of which a jitter may be longer than
_EPOCH = datetime.fromtimestamp(0, UTC)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
_MS = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
_EVER = timedelta(days=400 * 366)  # longer than any search


def next_fire(trigger: Trigger, after: datetime) -> datetime | None:
    """The first fire time strictly behind `after`, in UTC; None where there is none.

    That of a fixed delay is so long behind `after`, which is when a run ended.
    """
    return _next_fire(trigger, after, _last_year(trigger, after))


def first_fire(trigger: Trigger, now: datetime) -> datetime | None:
    """The fire time that a new trigger begins with: an instant that has passed already is late, not forgotten.

    A fixed delay begins at its start if that is to come, else one delay from now on.
    """
    match trigger.rule:
        case At(at):
            return at if _is_within(trigger, at) else None
        case After() if trigger.start is not None and trigger.start > now:
            return trigger.start
        case _:
            return next_fire(trigger, now)


def _is_within(trigger: Trigger, at: datetime) -> bool:
    return (trigger.start is None or trigger.start <= at) and (trigger.end is None or at <= trigger.end)


def delay_of(trigger: Trigger) -> timedelta | None:
    """The fixed delay between the end of a run and the next one; None for a trigger that does not wait for ends."""
    return trigger.rule.delay if isinstance(trigger.rule, After) else None


def due_at(trigger: Trigger, fire_at: datetime, seed: str) -> datetime:
    """When a fire is served: up to `jitter` behind its nominal time, the same on every admin and after a restart."""
    jitter = trigger.jitter // _MS
    if jitter <= 0:
        return fire_at
    drawn = blake2b(f"{(fire_at - _EPOCH) // _MS} {seed}".encode(), digest_size=8).digest()
    late = int.from_bytes(drawn) % jitter * _MS
    return fire_at + min(late, _END_OF_TIME - fire_at)


def checked_fires(trigger: Trigger, now: datetime, *, is_new: bool = True) -> Trigger:
    """The trigger, if a job may have it from now on; of one that is not new, what was let in before counts. Raises
    NeverFires, InvalidJob.
    """
    if not isinstance(trigger.rule, Manual) and first_fire(trigger, now) is None:
        raise NeverFires(trigger=json.dumps(form_of_trigger(trigger)), after=now.isoformat())
    if is_new and trigger.jitter and not isinstance(trigger.rule, After):
        _check_jitter(trigger, now)
    return trigger


def _check_jitter(trigger: Trigger, now: datetime) -> None:
    """A fire is not served behind a later one. Raises InvalidJob."""
    fires = list(islice(_fires(trigger, now), GAPS + 1))
    shortest = min((later - sooner for sooner, later in pairwise(fires)), default=trigger.jitter)
    if trigger.jitter > shortest:
        jitter, gap = duration_text(trigger.jitter), duration_text(shortest)
        fault = f"trigger: a jitter of {jitter} is longer than the {gap} between two of its fires"
        raise InvalidJob(reason=fault, faults=[fault])


def fire_times(
    expression: str, *, zone: str = "UTC", after: datetime, count: int, dialect: str = "quartz"
) -> list[datetime]:
    """The next `count` fire times of a cron expression in `zone`: whole seconds, strictly after `after`, rising.

    Fewer (or none) where the expression ends, at the latest 100 years on. `dialect` is "quartz" (6 or 7 fields) or
    "unix" (5). Raises InvalidTrigger with the position, InvalidArgument for an `after` that is naive or far from our
    days, or an unknown dialect.
    """
    if dialect not in list(Dialect):
        raise InvalidArgument(reason=f"{dialect!r} is no cron dialect: use quartz or unix")
    return cron_fires(Cron(expression, zone, Dialect(dialect)), after, count)


def cron_fires(cron: Cron, after: datetime, count: int) -> list[datetime]:
    """The next fire times in the zone of the expression. Raises InvalidTrigger, and InvalidArgument for `after`."""
    in_zone = compiled(cron).in_zone
    return [in_zone(fire) for fire in preview(Trigger(cron), after, count)]


def preview(trigger: Trigger, after: datetime, count: int) -> list[datetime]:
    """The next fire times of any trigger, in UTC, as if runs took no time. Raises InvalidArgument for `after`."""
    if after.tzinfo is None:
        raise InvalidArgument(reason="after needs a time zone")
    if not FIRST_YEAR <= after.year <= LAST_YEAR:
        raise InvalidArgument(reason=f"after lies between {FIRST_YEAR} and {LAST_YEAR}")
    return list(islice(_fires(trigger, after), max(count, 0)))


def _fires(trigger: Trigger, after: datetime) -> Iterator[datetime]:
    """All fire times behind `after` that one search finds, rising."""
    start, end, last_year = trigger.start, trigger.end, _last_year(trigger, after)
    if isinstance(trigger.rule, AllOf):
        behind = after if start is None else max(after, start - _INSTANT)
        agreed = _agreed(trigger.rule, behind, start or _EPOCH, last_year, MAX_PREVIEW_LEAPS)
        yield from agreed if end is None else takewhile(lambda fire: fire <= end, agreed)
        return
    while (found := _next_fire(trigger, after, last_year)) is not None:
        yield found
        after = found


def _last_year(trigger: Trigger, after: datetime) -> int:
    return last_year_of(after if trigger.start is None else max(after, trigger.start))


def _next_fire(trigger: Trigger, after: datetime, last_year: int) -> datetime | None:
    rule, start, end = trigger.rule, trigger.start, trigger.end
    if isinstance(rule, After):
        found: datetime | None = after + rule.delay if start is None else max(after + rule.delay, start)
    elif start is None:
        found = _next(rule, after, _EPOCH, last_year)
    else:
        found = _next(rule, max(after, start - _INSTANT), start, last_year)
    return None if found is None or (end is not None and found > end) else found


def _next(rule: Manual | Timed | AnyOf | AllOf, after: datetime, origin: datetime, last_year: int) -> datetime | None:
    match rule:
        case Cron():
            return compiled(rule).fire_after(after, last_year)
        case Every(period):
            return origin + ((after - origin) // period + 1) * period
        case At(at):
            return at if at > after else None
        case AnyOf(rules):
            found = (_next(each, after, origin, last_year) for each in rules)
            return min((fire for fire in found if fire is not None), default=None)
        case AllOf():
            return next(_agreed(rule, after, origin, last_year, MAX_LEAPS), None)
        case Manual():
            return None
        case _:
            assert_never(rule)


def _agreed(rule: AllOf, after: datetime, origin: datetime, last_year: int, leaps: int) -> Iterator[datetime]:
    """Leaps from what one rule names to the first that the next one names from there on; so many leaps at most.

    As many fires in a row as there are rules agree.
    """
    rules, agreeing, found = cycle(_merged(rule)), 0, after
    wanted = len(_merged(rule))
    for each in islice(rules, leaps):
        fire = _next(each, found - _INSTANT if agreeing else found, origin, last_year)
        if fire is None or fire.year > last_year:
            return
        agreeing = agreeing + 1 if fire == found and agreeing else 1
        found = fire
        if agreeing == wanted:
            yield found
            agreeing = 0


@lru_cache(maxsize=1024)
def _merged(rule: AllOf) -> tuple[Timed, ...]:
    """Fixed rates agree at the multiples of their least common one, which no search has to find."""
    seconds = [each.period // _SECOND for each in rule.rules if isinstance(each, Every)]
    others = tuple(each for each in rule.rules if not isinstance(each, Every))
    if not seconds:
        return others
    least = math.lcm(*seconds)
    return (*others, Every(min(least, _EVER // _SECOND) * _SECOND))
