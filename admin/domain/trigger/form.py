"""The plain form of a trigger: one kind, its options, and the bounds of all kinds."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from admin.domain.trigger.cron import compiled
from admin.domain.trigger.expression import FIRST_YEAR, LAST_YEAR
from admin.domain.trigger.fields import Form, duration_of, duration_text, mapping_of, text_of
from admin.domain.trigger.kinds import (
    After,
    AllOf,
    AnyOf,
    At,
    Cron,
    Dialect,
    Every,
    Manual,
    Repeated,
    Rule,
    Skipped,
    Timed,
    Trigger,
)

MAX_COMBINED = 20
MAX_JITTER = timedelta(days=1)
_SECOND = timedelta(seconds=1)
P = TypeVar("P", Skipped, Repeated)
_BOUNDS = ("start", "end", "jitter")
_OF_CLOCK = ("time_zone", "skipped", "repeated")


def trigger_of(value: object) -> Trigger:
    """One of cron, unix, every, at, after, any, all, manual, with options. Raises ValueError, InvalidTrigger."""
    form = {name: item for name, item in mapping_of(value).items() if item is not None or name in _KINDS}
    bounds = {name: form.pop(name) for name in _BOUNDS if name in form}
    rule = _rule(form)
    if bounds and isinstance(rule, Manual):
        raise ValueError(f"{', '.join(bounds)}: not with manual, which names no fire times")
    start = _bound(bounds["start"]) if "start" in bounds else None
    end = _bound(bounds["end"]) if "end" in bounds else None
    if start is not None and end is not None and end < start:
        raise ValueError("end lies before start")
    return Trigger(rule, start, end, _jitter(bounds["jitter"]) if "jitter" in bounds else timedelta())


def form_of_trigger(trigger: Trigger) -> dict[str, object]:
    """What `trigger_of` reads back as the same trigger."""
    form = _form_of_rule(trigger.rule)
    if trigger.start is not None:
        form["start"] = trigger.start.isoformat()
    if trigger.end is not None:
        form["end"] = trigger.end.isoformat()
    if trigger.jitter:
        form["jitter"] = duration_text(trigger.jitter)
    return form


def _form_of_rule(rule: Rule) -> dict[str, object]:
    match rule:
        case Manual():
            return {"manual": True}
        case Cron():
            return _form_of_cron(rule)
        case Every(period):
            return {"every": duration_text(period)}
        case At(at):
            return {"at": at.isoformat()}
        case After(delay):
            return {"after": duration_text(delay)}
        case AnyOf(rules):
            return {"any": [_form_of_rule(each) for each in rules]}
        case AllOf(rules):
            return {"all": [_form_of_rule(each) for each in rules]}


def _form_of_cron(rule: Cron) -> dict[str, object]:
    kind = "cron" if rule.dialect is Dialect.QUARTZ else "unix"
    form: dict[str, object] = {kind: rule.expression, "time_zone": rule.time_zone}
    if rule.skipped is not Skipped.SKIP:
        form["skipped"] = str(rule.skipped)
    if rule.repeated is not Repeated.ONCE:
        form["repeated"] = str(rule.repeated)
    return form


def _rule(form: Form) -> Rule:
    kind = _kind(form, _KINDS)
    return _KINDS[kind](form)


def _kind(form: Form, kinds: Mapping[str, object]) -> str:
    given = set(form) - set(_OF_CLOCK)
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(kinds)}")
    (kind,) = given
    if kind not in kinds:
        raise ValueError(f"{kind!r} is no trigger: give one of {', '.join(kinds)}")
    if len(form) > 1 and kind not in ("cron", "unix"):
        raise ValueError(f"{', '.join(_OF_CLOCK)} go with cron and unix only")
    return kind


def _cron(dialect: Dialect) -> Callable[[Form], Cron]:
    def read(form: Form) -> Cron:
        expression = text_of(form["cron" if dialect is Dialect.QUARTZ else "unix"])
        zone = text_of(form.get("time_zone", "UTC"))
        skipped = _policy(Skipped, form, "skipped", Skipped.SKIP)
        repeated = _policy(Repeated, form, "repeated", Repeated.ONCE)
        rule = Cron(expression, zone, dialect, skipped, repeated)
        compiled(rule)
        return rule

    return read


def _policy(kinds: type[P], form: Form, name: str, default: P) -> P:
    given = form.get(name, default)
    for kind in kinds:
        if kind == given:
            return kind
    raise ValueError(f"{name} is {' or '.join(kinds)}")


def _every(form: Form) -> Every:
    period = duration_of(form["every"])
    if period < _SECOND or period % _SECOND:
        raise ValueError("every is at least 1s, in whole seconds")
    return Every(period)


def _at(form: Form) -> At:
    return At(_instant(form["at"], "at"))


def _after(form: Form) -> After:
    delay = duration_of(form["after"])
    if delay < _SECOND:
        raise ValueError("after is at least 1s")
    return After(delay)


def _manual(form: Form) -> Manual:
    if form["manual"] is not True:
        raise ValueError("manual is true, or left out")
    return Manual()


def _any(form: Form) -> AnyOf:
    return AnyOf(_combined(form["any"], "any"))


def _all(form: Form) -> AllOf:
    return AllOf(_combined(form["all"], "all"))


def _combined(value: object, name: str) -> tuple[Timed, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= MAX_COMBINED:
        raise ValueError(f"{name} is a list of 1 to {MAX_COMBINED} triggers")
    rules = []
    for number, each in enumerate(value):
        try:
            rules.append(_timed(each))
        except ValueError as error:
            raise ValueError(f"{name}[{number}]: {error}") from error
    return tuple(rules)


def _timed(value: object) -> Timed:
    form = {name: item for name, item in mapping_of(value).items() if item is not None or name in _TIMED}
    if misplaced := [name for name in _BOUNDS if name in form]:
        raise ValueError(f"{', '.join(misplaced)}: stands beside any and all, not within")
    return _TIMED[_kind(form, _TIMED)](form)


def _bound(value: object) -> datetime:
    found = _instant(value, "start or end")
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError(f"start and end lie between {FIRST_YEAR} and {LAST_YEAR}")
    return found


def _jitter(value: object) -> timedelta:
    jitter = duration_of(value)
    if jitter > MAX_JITTER:
        raise ValueError("jitter is at most 1d")
    return jitter


def _instant(value: object, name: str) -> datetime:
    """In UTC and whole milliseconds, which is what the books keep."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(text_of(value))
    if found.tzinfo is None:
        raise ValueError(f"{name} needs an offset from UTC, e.g. 2026-12-01T09:00:00+08:00")
    try:
        found = found.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value!r} lies outside the calendar") from error
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


_TIMED: Mapping[str, Callable[[Form], Timed]] = {
    "cron": _cron(Dialect.QUARTZ),
    "unix": _cron(Dialect.UNIX),
    "every": _every,
    "at": _at,
}
_KINDS: Mapping[str, Callable[[Form], Rule]] = {
    **_TIMED,
    "after": _after,
    "any": _any,
    "all": _all,
    "manual": _manual,
}
