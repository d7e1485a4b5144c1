"""When a job is due: triggers as data, and the next instant that each of them names."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import assert_never
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from admin.domain.cron import FIRST_YEAR, LAST_YEAR, Dialect, Fields, parse_cron
from admin.domain.errors import InvalidTrigger
from protos.errors import InvalidArgument

SEARCH_YEARS = 100  # an expression that names nothing in this time names nothing (29 February on a Monday takes 28)


@dataclass(frozen=True, slots=True)
class Manual:
    """Due only when somebody asks."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Due when the wall clock of the zone shows what the expression names."""

    expression: str
    time_zone: str = "UTC"
    dialect: Dialect = Dialect.QUARTZ


@dataclass(frozen=True, slots=True)
class Every:
    """Due at each whole multiple of the period since 1970, so that admins and restarts agree without a memory."""

    period: timedelta


@dataclass(frozen=True, slots=True)
class At:
    """Due once."""

    at: datetime


@dataclass(frozen=True, slots=True)
class After:
    """Due a fixed time behind the end of the last run that was due."""

    delay: timedelta


Trigger = Manual | Cron | Every | At | After


def delay_of(trigger: Trigger) -> timedelta | None:
    return trigger.delay if isinstance(trigger, After) else None


def due_at(trigger: Trigger, fire_at: datetime, seed: str) -> datetime:
    return fire_at


def next_fire(trigger: Trigger, after: datetime) -> datetime | None:
    """The first fire time strictly behind `after`, in UTC; None where there is none."""
    match trigger:
        case Manual():
            return None
        case At(at):
            return at if at > after else None
        case After(delay):
            return after + delay
        case Every(period):
            epoch = datetime.fromtimestamp(0, UTC)
            return epoch + ((after - epoch) // period + 1) * period
        case Cron(expression, time_zone, dialect):
            found = compiled(expression, time_zone, dialect).get_next_fire_time(None, after)
            return found.astimezone(UTC) if found else None
        case _:
            assert_never(trigger)


def first_fire(trigger: Trigger, now: datetime) -> datetime | None:
    """The fire time that a new trigger begins with: an instant that has passed already is late, not forgotten."""
    return trigger.at if isinstance(trigger, At) else next_fire(trigger, now)


def fire_times(
    expression: str, *, zone: str = "UTC", after: datetime, count: int, dialect: str = "quartz"
) -> list[datetime]:
    """The next `count` fire times of a cron expression in `zone`: whole seconds, strictly after `after`, rising.

    Fewer (or none) where the expression ends. `dialect` is "quartz" (6 or 7 fields) or "unix" (5). Raises
    InvalidTrigger with the position, InvalidArgument for an `after` that is naive or far from our days, or an unknown
    dialect.
    """
    _check_after(after)
    if dialect not in list(Dialect):
        raise InvalidArgument(reason=f"{dialect!r} is no cron dialect: use quartz or unix")
    return list(islice(_fires(compiled(expression, zone, Dialect(dialect)), after), count))


def preview(trigger: Trigger, after: datetime, count: int) -> list[datetime]:
    """The next fire times of any trigger, in UTC. Raises InvalidArgument for an `after` far from our days."""
    _check_after(after)
    found: list[datetime] = []
    fire = next_fire(trigger, after)
    while fire is not None and len(found) < count:
        found.append(fire)
        fire = next_fire(trigger, fire)
    return found


def _check_after(after: datetime) -> None:
    if after.tzinfo is None:
        raise InvalidArgument(reason="after needs a time zone")
    if not FIRST_YEAR <= after.year <= LAST_YEAR:
        raise InvalidArgument(reason=f"after lies between {FIRST_YEAR} and {LAST_YEAR}")


@lru_cache(maxsize=4096)
def compiled(expression: str, time_zone: str, dialect: Dialect) -> "CronTrigger":
    """Raises InvalidTrigger, also for an unknown zone (its position is that behind the expression)."""
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        reason = f"there is no time zone {time_zone!r}"
        raise InvalidTrigger(expression=expression, position=len(expression), reason=reason) from error
    return CronTrigger(parse_cron(expression, dialect), zone)


def _fires(trigger: "CronTrigger", after: datetime) -> Iterator[datetime]:
    while (found := trigger.get_next_fire_time(None, after)) is not None:
        yield found
        after = found


class CronTrigger(BaseTrigger):  # type: ignore[misc]
    """Cron behind APScheduler's interface, with the answers of Quartz to clock changes.

    A wall time that a clock change skips does not fire; one that it repeats fires once, in the second pass.
    """

    __slots__ = ("_fields", "_zone")

    def __init__(self, fields: Fields, zone: ZoneInfo) -> None:
        self._fields = fields
        self._zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Strictly behind both; None where the expression ends."""
        after = (max(previous_fire_time, now) if previous_fire_time else now).astimezone(UTC)
        for day in self._days(after.astimezone(self._zone).date()):
            if (found := self._first_of(day, after)) is not None:
                return found
        return None

    def _days(self, start: date) -> Iterator[date]:
        """From the day before, whose repeated hour may lie behind midnight."""
        start = max(start, date(1970, 1, 2)) - timedelta(days=1)
        for year in range(start.year, min(start.year + SEARCH_YEARS, LAST_YEAR) + 1):
            if year not in self._fields.years:
                continue
            day = max(start, date(year, 1, 1))
            while day.year == year:
                if day.month not in self._fields.months:
                    day = _next_month(day)
                    continue
                if self._fields.has_day(day.day, day.isoweekday() % 7):
                    yield day
                day += timedelta(days=1)

    def _first_of(self, day: date, after: datetime) -> datetime | None:
        hours, minutes, seconds = self._fields.hours, self._fields.minutes, self._fields.seconds
        if self._is_past(datetime.combine(day, time(hours[-1], minutes[-1], seconds[-1])), after):
            return None
        for hour in hours:
            if self._is_past(datetime.combine(day, time(hour, minutes[-1], seconds[-1])), after):
                continue
            for minute in minutes:
                if self._is_past(datetime.combine(day, time(hour, minute, seconds[-1])), after):
                    continue
                for second in seconds:
                    wall = datetime.combine(day, time(hour, minute, second), self._zone).replace(fold=1)
                    instant = wall.astimezone(UTC)
                    if instant > after and instant.astimezone(self._zone).time() == wall.time():
                        return wall
        return None

    def _is_past(self, wall: datetime, after: datetime) -> bool:
        """Whether neither reading of this wall time, nor any earlier one of its day, lies behind `after`."""
        local = wall.replace(tzinfo=self._zone)
        return all(local.replace(fold=fold).astimezone(UTC) <= after for fold in (0, 1))


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)
