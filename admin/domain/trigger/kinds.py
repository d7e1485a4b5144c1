"""Triggers as data: a rule that names instants, and the bounds of all rules: from when, until when, how far spread."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta


class Dialect(enum.StrEnum):
    """Which cron: never guessed from the number of fields."""

    QUARTZ = enum.auto()
    UNIX = enum.auto()


class Skipped(enum.StrEnum):
    """What becomes of a wall time that a clock change skips."""

    SKIP = enum.auto()
    SHIFT = enum.auto()  # read as if the clock had not changed: 02:30 is what is then called 03:30


class Repeated(enum.StrEnum):
    """What becomes of a wall time that a clock change repeats."""

    ONCE = enum.auto()  # in the second pass
    TWICE = enum.auto()


@dataclass(frozen=True, slots=True)
class Manual:
    """Due only when somebody asks."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Due when the wall clock of the zone shows what the expression names."""

    expression: str
    time_zone: str = "UTC"
    dialect: Dialect = Dialect.QUARTZ
    skipped: Skipped = Skipped.SKIP
    repeated: Repeated = Repeated.ONCE


@dataclass(frozen=True, slots=True)
class Every:
    """Due at each whole multiple of the period since `start` or 1970, so that admins agree without a memory."""

    period: timedelta


@dataclass(frozen=True, slots=True)
class At:
    """Due once."""

    at: datetime


@dataclass(frozen=True, slots=True)
class After:
    """Due again when so much time has passed since the last run ended."""

    delay: timedelta


Timed = Cron | Every | At  # what names instants by itself, without knowing when anything ended


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Due whenever one of the rules is; an instant that several name is one fire."""

    rules: tuple[Timed, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Due whenever all of the rules are."""

    rules: tuple[Timed, ...]


Rule = Manual | Timed | After | AnyOf | AllOf


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a job is due. `start` and `end` are fire times themselves if the rule names them."""

    rule: Rule
    start: datetime | None = None
    end: datetime | None = None
    jitter: timedelta = timedelta()


MANUAL = Trigger(Manual())
