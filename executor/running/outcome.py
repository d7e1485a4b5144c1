"""How an attempt ended, decided from what its handler returned or raised."""

import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic_core import PydanticSerializationError, to_json

from broker.errors import ProducerUnknown, StaleTerm, TooLarge
from executor.errors import (
    AttemptTimedOut,
    BadCursor,
    BadHandler,
    BadParams,
    BadResult,
    Cancelled,
    CheckpointOrder,
    DatabaseUnreachable,
    Fail,
    HandlerDied,
    MiddlewareFailed,
    Retry,
    RowFailed,
    ScanError,
    ScanRepeated,
    Skip,
    UnknownHandler,
    message_of,
)
from executor.model import AttemptKey, Counters, Outcome, OutcomeState
from executor.registry import PLAIN, Manner
from executor.running.cancellation import Why
from protos.errors import ShardcastError

MAX_RESULT_BYTES = 64 << 10
MAX_TRACEBACK_BYTES = 32 << 10
MAX_ERROR_CHARACTERS = 4_096

HOPELESS = (
    *(BadHandler, BadParams, BadResult, UnknownHandler, CheckpointOrder, ScanRepeated, ScanError, BadCursor),
    *(ProducerUnknown, TooLarge),
)
"""Errors that another try of the same handler with the same parameters meets again."""


class EndedElsewhere(Exception):
    """A handler ended in its own process, otherwise than by returning."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.error_code}: {outcome.error_message}")
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt whose handler has ended, or was left."""

    key: AttemptKey
    started_at: datetime
    ended_at: datetime
    counters: Counters
    why: Why | None = None  # it was told to stop
    reason: str = ""
    timeout: timedelta | None = None
    manner: Manner = PLAIN


def encode_result(handler: str, value: object) -> str:
    """The result as JSON text. Raises BadResult."""
    try:
        data = to_json(value, inf_nan_mode="null")
        json.loads(data)  # as its readers do, who do not take whole numbers of any length
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise BadResult(name=handler, reason=str(error)) from error
    if len(data) > MAX_RESULT_BYTES:
        raise BadResult(name=handler, reason=f"it has {len(data)} bytes, the limit is {MAX_RESULT_BYTES}")
    return data.decode()


def succeeded(ending: Ending, result: str) -> Outcome:
    return replace(_outcome(ending, OutcomeState.SUCCEEDED), result=result)


def ended_by(ending: Ending, error: BaseException) -> Outcome:
    """The outcome of an attempt that an error ended: its own, the broker's, or the order to stop."""
    if (stale := find(error, StaleTerm)) is not None:
        current = int(str(stale.fields.get("current", 0)))
        return replace(_outcome(ending, OutcomeState.FENCED, stale), broker_term=current)
    if isinstance(error, EndedElsewhere) and (ending.why is None or error.outcome.state is OutcomeState.FENCED):
        started_at, ended_at, counters = ending.started_at, ending.ended_at, ending.counters
        return replace(error.outcome, started_at=started_at, ended_at=ended_at, counters=counters)
    match ending.why:
        case Why.CANCELLED | Why.LOST:
            return _outcome(ending, OutcomeState.CANCELLED, Cancelled(reason=ending.reason))
        case Why.RELEASED:
            return _outcome(ending, OutcomeState.RELEASED, Cancelled(reason=ending.reason))
        case Why.TIMED_OUT:
            seconds = ending.timeout.total_seconds() if ending.timeout else 0
            return replace(_outcome(ending, OutcomeState.FAILED, AttemptTimedOut(seconds=seconds)), is_retryable=True)
        case None:
            return _raised(ending, error)


def find(error: BaseException, kind: type[ShardcastError]) -> ShardcastError | None:
    """The first error of a kind in a chain of causes, groups included."""
    return next((found for found in _chain(error) if isinstance(found, kind)), None)


def _raised(ending: Ending, error: BaseException) -> Outcome:
    if isinstance(error, Skip):
        return _outcome(ending, OutcomeState.SKIPPED, error)
    failed = _outcome(ending, OutcomeState.FAILED, error)
    if isinstance(error, Retry):
        return replace(failed, is_retryable=True, retry_after=error.after)
    if isinstance(error, Fail):
        return failed
    return replace(failed, is_retryable=_may_retry(ending.manner, error), traceback=_trace(error))


def _may_retry(manner: Manner, error: BaseException) -> bool:
    """What its handler's author said of such errors; else all are tried again that may go better."""
    fault = error.__cause__ or error if isinstance(error, RowFailed) else error
    if isinstance(error, HandlerDied | MiddlewareFailed):  # not the handler's own
        return not isinstance(error, manner.give_up_on)
    if (is_said := manner.may_retry(fault)) is not None:
        return is_said
    is_hopeless = isinstance(fault, HOPELESS) and not isinstance(fault, DatabaseUnreachable)
    return not is_hopeless and find(error, ProducerUnknown) is None


def _outcome(ending: Ending, state: OutcomeState, error: BaseException | None = None) -> Outcome:
    outcome = Outcome(ending.key, state, ending.started_at, ending.ended_at, counters=ending.counters)
    if error is None:
        return outcome
    code = error.code if isinstance(error, ShardcastError) else type(error).__name__
    return replace(outcome, error_code=code, error_message=message_of(error)[:MAX_ERROR_CHARACTERS])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Not by recursion: a loop that raises each time from what went wrong before makes a chain of any length."""
    waiting, seen = [error], set[int]()
    while waiting:
        error = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        field = error.fields.get("cause") if isinstance(error, ShardcastError) else None
        causes = (*parts, error.__cause__, error.__context__, field)
        waiting += [cause for cause in reversed(causes) if isinstance(cause, BaseException)]


def _trace(error: BaseException) -> str:
    """The last 32 KiB of the traceback: what matters stands at its end."""
    text = "".join(traceback.format_exception(error)).encode(errors="replace")
    return text[-MAX_TRACEBACK_BYTES:].decode(errors="ignore")
