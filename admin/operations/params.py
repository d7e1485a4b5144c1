"""Whether parameters fit the JSON schema that an executor registered for its handler.

The schema is the executor's word, so no more is believed of it than can be checked in bounded time and without asking
anybody: no reference leads out of it, regular expressions are not tried, and what takes too many steps, or is no
schema, refuses nothing. The executor itself has the last word when it runs the handler.
"""

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import Any

import structlog
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import create
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing import Registry

from admin.domain.form import is_shallow

log = structlog.get_logger(__name__)

MAX_STEPS = 20_000
MAX_STEPS_OF_A_SCHEMA = 100_000  # to see that it is one
MAX_REASON = 300  # characters; some quote the parameters whole
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ERRORS = 20  # of which the most telling one is told
_UNBOUNDED = ("pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
_OF_WHOLES = ("required", "minProperties", "dependentRequired", "oneOf", "not", "if")

Keyword = Callable[[Any, Any, Any, Any], Any]

_steps_left: ContextVar[int] = ContextVar("steps_left")


class _TooManySteps(Exception):
    """The schema takes too long."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Where parameters do not fit, and why."""

    path: str
    reason: str


def fault_of(schema: str, params: str, *, is_partial: bool = False) -> Fault | None:
    """Why JSON parameters do not fit a JSON schema; None if they do, or if the schema cannot say. Partial ones may lack
    what somebody lays over them later.
    """
    if not schema or (validator := _compiled(schema, is_partial)) is None:
        return None
    _steps_left.set(MAX_STEPS)
    try:
        found = best_match(islice(validator.iter_errors(json.loads(params)), _ERRORS))
    except Exception as error:  # whatever a schema may lead to: a reference to nowhere, one to itself, too many steps
        _ignored(error)
        return None
    return None if found is None else _fault(found)


def _fault(error: ValidationError) -> Fault:
    reason = " ".join(error.message.split())
    return Fault("params" + error.json_path[1:], reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}...")


@lru_cache(maxsize=256)
def _compiled(schema: str, is_partial: bool) -> Validator | None:
    """None for what is no schema."""
    try:
        form = json.loads(schema)
        if not is_shallow(form) or (isinstance(form, dict) and form.get("$schema", _DIALECT).rstrip("#") != _DIALECT):
            raise ValueError("it nests too deep, or is of another dialect than 2020-12")
        if '"patternProperties"' in json.dumps(form):
            raise ValueError("its patternProperties are not tried")
        _steps_left.set(MAX_STEPS_OF_A_SCHEMA)
        if not _dialect(False)(Draft202012Validator.META_SCHEMA, registry=SPECIFICATIONS).is_valid(form):
            raise ValueError("it is no JSON Schema")
        return _dialect(is_partial)(form, registry=Registry())
    except Exception as error:  # whatever an executor may send
        _ignored(error)
        return None


def _ignored(error: Exception) -> None:
    reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
    log.warning("schema of parameters ignored", action="schema_ignored", reason=reason)


@cache
def _dialect(is_partial: bool) -> type[Validator]:
    """JSON Schema without what may take for ever; for partial parameters also without what speaks of whole ones."""
    left_out = (*_UNBOUNDED, *_OF_WHOLES) if is_partial else _UNBOUNDED
    keywords = {name: _counted(word) for name, word in Draft202012Validator.VALIDATORS.items() if name not in left_out}
    return create(
        meta_schema=Draft202012Validator.META_SCHEMA,
        validators=keywords,
        type_checker=Draft202012Validator.TYPE_CHECKER,
    )


def _counted(keyword: Keyword) -> Keyword:
    """The keyword, as long as there are steps left."""

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _step(len(value) if isinstance(value, list | dict) else 1)
        for error in keyword(validator, value, instance, schema) or ():
            _step(len(error.message) // 1024)
            yield error

    return counted


def _step(count: int) -> None:
    left = _steps_left.get() - 1 - count
    if left < 0:
        raise _TooManySteps("it takes too many steps")
    _steps_left.set(left)
