"""The one plain form of a job, the same in YAML, JSON and proto: read with all faults told, and written."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeGuard, TypeVar

from admin.domain.cron import Dialect
from admin.domain.errors import InvalidJob, InvalidTrigger
from admin.domain.job import EXECUTORS, MAX_SHARDS, JobDefinition, Misfire, Overlap
from admin.domain.names import Group, HandlerName, JobName
from admin.domain.retry import Backoff, RetryPolicy
from admin.domain.trigger import After, At, Cron, Every, Manual, Trigger, compiled

Form = Mapping[str, object]
T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1))
_MARKS = ("d", "h", "m", "s", "ms")
_FIELDS = frozenset(field.name for field in fields(JobDefinition))
_LONGEST = timedelta(days=365)
_MAX_PARAMS_BYTES = 64 << 10
MAX_DEPTH = 64  # of nested JSON
_MANUAL: Trigger = Manual()
_ONE_SHARD: int | None = 1
_NO_LIMIT: int | None = None
MAX_OVERLAP = 100_000


def definition_of(form: Form) -> JobDefinition:
    """Raises InvalidJob with all faults, or InvalidTrigger."""
    read = _Faults()
    unknown = sorted(set(form) - _FIELDS)
    if unknown:
        read.faults.append(f"unknown fields: {', '.join(unknown)}")
    definition = JobDefinition(
        name=JobName(read.field(form, "name", _name, "")),
        group=Group(read.field(form, "group", _name, "")),
        handler=HandlerName(read.field(form, "handler", _handler, "")),
        trigger=read.field(form, "trigger", trigger_of, _MANUAL, optional=True),
        shards=read.field(form, "shards", _shards, _ONE_SHARD, optional=True),
        params=read.field(form, "params", _params, "{}", optional=True),
        retry=read.field(form, "retry", _retry, RetryPolicy(), optional=True),
        timeout=read.field(form, "timeout", _timeout, None, optional=True),
        overlap=read.field(form, "overlap", lambda value: Overlap(_text(value)), Overlap.SKIP, optional=True),
        misfire=read.field(form, "misfire", lambda value: Misfire(_text(value)), Misfire.FIRE_ONCE, optional=True),
        overlap_limit=read.field(form, "overlap_limit", _overlap_limit, _NO_LIMIT, optional=True),
    )
    if definition.overlap_limit is not None and definition.overlap not in (Overlap.QUEUE, Overlap.ALLOW):
        read.faults.append("overlap_limit: it goes with overlap: queue and overlap: allow only")
    if read.faults:
        raise InvalidJob(reason="; ".join(read.faults), faults=read.faults)
    return definition


def form_of(definition: JobDefinition) -> dict[str, object]:
    """What `definition_of` reads back as the same definition."""
    retry = definition.retry
    return {
        "name": definition.name,
        "group": definition.group,
        "handler": definition.handler,
        "trigger": form_of_trigger(definition.trigger),
        "shards": EXECUTORS if definition.shards is None else definition.shards,
        "params": json.loads(definition.params),
        "retry": {
            "attempts": retry.attempts,
            "backoff": str(retry.backoff),
            "initial": duration_text(retry.initial),
            "max": duration_text(retry.max),
            "jitter": retry.jitter,
            "losses": retry.losses,
        },
        "timeout": duration_text(definition.timeout) if definition.timeout is not None else None,
        "overlap": str(definition.overlap),
        "misfire": str(definition.misfire),
        "overlap_limit": definition.overlap_limit,
    }


def trigger_of(value: object) -> Trigger:
    """{cron | unix, time_zone?} | {every} | {at} | {manual: true}; raises ValueError, InvalidTrigger, NotSupported."""
    form = _mapping(value)
    kinds = set(form) - {"time_zone"}
    if len(kinds) != 1:
        raise ValueError("give exactly one of cron, unix, every, at, after, manual")
    if form.get("time_zone") is not None and not kinds & {"cron", "unix"}:
        raise ValueError("time_zone goes with cron and unix only")
    kind = kinds.pop()
    if kind not in _TRIGGERS:
        raise ValueError(f"{kind!r} is no trigger: give one of cron, unix, every, at, after, manual")
    return _TRIGGERS[kind](form)


def form_of_trigger(trigger: Trigger) -> dict[str, object]:
    match trigger:
        case Manual():
            return {"manual": True}
        case Cron(expression, time_zone, Dialect.QUARTZ):
            return {"cron": expression, "time_zone": time_zone}
        case Cron(expression, time_zone, _):
            return {"unix": expression, "time_zone": time_zone}
        case Every(period):
            return {"every": duration_text(period)}
        case After(delay):
            return {"after": duration_text(delay)}
        case At(at):
            return {"at": at.isoformat()}


def duration_of(value: object) -> timedelta:
    """Reads "30s", "5m", "1h30m", "250ms"; raises ValueError."""
    match = _DURATION.fullmatch(_text(value))
    if match is None or not any(match.groups()):
        raise ValueError(f"{value!r} is no duration: write 30s, 5m, 1h30m or 3d")
    try:
        found = sum((int(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part), timedelta())
    except OverflowError:
        found = timedelta.max
    if found > _LONGEST:
        raise ValueError(f"{value!r} is longer than 365 days")
    return found


def duration_text(duration: timedelta) -> str:
    parts: list[str] = []
    for unit, mark in zip(_UNITS, _MARKS, strict=True):
        count, duration = divmod(duration, unit)
        if count:
            parts.append(f"{count}{mark}")
    return "".join(parts) or "0s"


class _Faults:
    """Reads fields and keeps what is wrong with each."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def field(self, form: Form, name: str, read: Callable[[object], T], default: T, *, optional: bool = False) -> T:
        value = form.get(name)
        if value is None:
            if not optional:
                self.faults.append(f"{name}: is needed")
            return default
        try:
            return read(value)
        except InvalidTrigger:
            raise
        except ValueError as error:
            self.faults.append(f"{name}: {error}")
            return default


def _name(value: object) -> str:
    text = _text(value)
    if not _NAME.fullmatch(text):
        raise ValueError(f'{text!r} is no name: use 1 to 100 letters, digits, "_", "-" or "."')
    return text


def _handler(value: object) -> str:
    text = _text(value)
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise ValueError("use 1 to 100 printable characters")
    return text


def _shards(value: object) -> int | None:
    if value == EXECUTORS:
        return None
    if not _is_whole(value) or not 1 <= value <= MAX_SHARDS:
        raise ValueError(f'give a number from 1 to {MAX_SHARDS}, or "{EXECUTORS}"')
    return value


def _params(value: object) -> str:
    return params_text(_mapping(value))


def params_text(params: Mapping[str, object]) -> str:
    """Raises ValueError for what JSON or UTF-8 cannot say, and for too much of it."""
    if not is_shallow(params):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        text = json.dumps(params, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if len(text.encode()) > _MAX_PARAMS_BYTES:
        raise ValueError(f"more than {_MAX_PARAMS_BYTES} bytes of JSON")
    return text


def is_shallow(value: object, levels: int = MAX_DEPTH) -> bool:
    """Whether every reader of JSON can follow the nesting of this value."""
    match value:
        case Mapping():
            return levels > 0 and all(is_shallow(item, levels - 1) for item in value.values())
        case list() | tuple():
            return levels > 0 and all(is_shallow(item, levels - 1) for item in value)
        case _:
            return True


def _retry(value: object) -> RetryPolicy:
    form = _mapping(value)
    default = RetryPolicy()
    if unknown := sorted(set(form) - {"attempts", "backoff", "initial", "max", "jitter", "losses"}):
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    return RetryPolicy(
        attempts=_given(form, "attempts", partial(_count, "attempts"), default.attempts),
        backoff=_given(form, "backoff", lambda text: Backoff(_text(text)), default.backoff),
        initial=_given(form, "initial", duration_of, default.initial),
        max=_given(form, "max", duration_of, default.max),
        jitter=_given(form, "jitter", _share, default.jitter),
        losses=_given(form, "losses", partial(_count, "losses"), default.losses),
    )


def _count(name: str, value: object) -> int:
    if not _is_whole(value) or not 1 <= value <= 1000:
        raise ValueError(f"{name} must be a number from 1 to 1000")
    return value


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("jitter is a share of the pause, from 0 to 1")
    return float(value)


def _overlap_limit(value: object) -> int | None:
    if not _is_whole(value) or not 1 <= value <= MAX_OVERLAP:
        raise ValueError(f"give a number from 1 to {MAX_OVERLAP}")
    return value


def _given(form: Form, name: str, read: Callable[[object], T], default: T) -> T:
    value = form.get(name)
    return default if value is None else read(value)


def _timeout(value: object) -> timedelta:
    timeout = duration_of(value)
    if timeout > timedelta(days=49):
        raise ValueError("a timeout is at most 49 days")
    if timeout == timedelta():
        raise ValueError("a timeout is longer than 0s")
    return timeout


def _cron(dialect: Dialect) -> Callable[[Form], Trigger]:
    def read(form: Form) -> Trigger:
        expression = _text(form["cron" if dialect is Dialect.QUARTZ else "unix"])
        zone = "UTC" if form.get("time_zone") is None else _text(form["time_zone"])
        compiled(expression, zone, dialect)
        return Cron(expression, zone, dialect)

    return read


def _every(form: Form) -> Trigger:
    period = duration_of(form["every"])
    if period < timedelta(seconds=1) or period % timedelta(seconds=1):
        raise ValueError("every is at least 1s, in whole seconds")
    return Every(period)


def _at(form: Form) -> Trigger:
    value = form["at"]
    at = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    if at.tzinfo is None:
        raise ValueError("at needs an offset from UTC, e.g. 2026-12-01T09:00:00+08:00")
    try:
        at = at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value!r} lies outside the calendar") from error
    return At(at.replace(microsecond=at.microsecond // 1000 * 1000))  # the books keep milliseconds


def _after(form: Form) -> Trigger:
    return After(duration_of(form["after"]))


def _manual(form: Form) -> Trigger:
    if form["manual"] is not True:
        raise ValueError("manual is true, or left out")
    return Manual()


_TRIGGERS: Mapping[str, Callable[[Form], Trigger]] = {
    "cron": _cron(Dialect.QUARTZ),
    "unix": _cron(Dialect.UNIX),
    "every": _every,
    "at": _at,
    "after": _after,
    "manual": _manual,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _mapping(value: object) -> Form:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{value!r} is no set of names and values")
    return value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
