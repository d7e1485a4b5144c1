"""The one plain form of a job, the same in YAML, JSON and proto: read with all faults told, and written."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import TypeVar

from admin.domain.errors import InvalidJob, InvalidTrigger
from admin.domain.job import EXECUTORS, MAX_SHARDS, JobDefinition, Misfire, Overlap
from admin.domain.names import Group, HandlerName, JobName
from admin.domain.retry import Backoff, RetryPolicy
from admin.domain.trigger import MANUAL, form_of_trigger, trigger_of
from admin.domain.trigger.fields import Form, duration_of, duration_text, is_whole, mapping_of, text_of

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_FIELDS = frozenset(field.name for field in fields(JobDefinition))
_MAX_PARAMS_BYTES = 64 << 10
MAX_DEPTH = 64  # of nested JSON
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
        trigger=read.field(form, "trigger", trigger_of, MANUAL, optional=True),
        shards=read.field(form, "shards", _shards, _ONE_SHARD, optional=True),
        params=read.field(form, "params", _params, "{}", optional=True),
        retry=read.field(form, "retry", _retry, RetryPolicy(), optional=True),
        timeout=read.field(form, "timeout", _timeout, None, optional=True),
        overlap=read.field(form, "overlap", lambda value: Overlap(text_of(value)), Overlap.SKIP, optional=True),
        misfire=read.field(form, "misfire", lambda value: Misfire(text_of(value)), Misfire.FIRE_ONCE, optional=True),
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
    text = text_of(value)
    if not _NAME.fullmatch(text):
        raise ValueError(f'{text!r} is no name: use 1 to 100 letters, digits, "_", "-" or "."')
    return text


def _handler(value: object) -> str:
    text = text_of(value)
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise ValueError("use 1 to 100 printable characters")
    return text


def _shards(value: object) -> int | None:
    if value == EXECUTORS:
        return None
    if not is_whole(value) or not 1 <= value <= MAX_SHARDS:
        raise ValueError(f'give a number from 1 to {MAX_SHARDS}, or "{EXECUTORS}"')
    return value


def _params(value: object) -> str:
    return params_text(mapping_of(value))


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
    form = mapping_of(value)
    default = RetryPolicy()
    if unknown := sorted(set(form) - {"attempts", "backoff", "initial", "max", "jitter", "losses"}):
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    return RetryPolicy(
        attempts=_given(form, "attempts", partial(_count, "attempts"), default.attempts),
        backoff=_given(form, "backoff", lambda text: Backoff(text_of(text)), default.backoff),
        initial=_given(form, "initial", duration_of, default.initial),
        max=_given(form, "max", duration_of, default.max),
        jitter=_given(form, "jitter", _share, default.jitter),
        losses=_given(form, "losses", partial(_count, "losses"), default.losses),
    )


def _count(name: str, value: object) -> int:
    if not is_whole(value) or not 1 <= value <= 1000:
        raise ValueError(f"{name} must be a number from 1 to 1000")
    return value


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("jitter is a share of the pause, from 0 to 1")
    return float(value)


def _overlap_limit(value: object) -> int | None:
    if not is_whole(value) or not 1 <= value <= MAX_OVERLAP:
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
