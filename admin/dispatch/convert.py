"""Messages of the link to the domain's data, and back."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_never

from admin.domain.logs import MAX_LINE_CHARACTERS, LogLine
from admin.domain.names import Attempt, HandlerName, RunId
from admin.domain.routing import Assignment
from admin.domain.run import Outcome, OutcomeState, Verdict
from admin.domain.shard import NOTHING_YET, Counters, Fault, counts_of
from protos.errors import InvalidArgument
from protos.executor.v1 import link_pb2 as pb

MAX_NUMBER = 2**62  # what a database keeps, and more than anybody counts
MAX_INDEX = 2**31 - 1  # of a shard; there is none beyond
MAX_RESULT = 64 << 10  # characters of a result or a cursor, as the protocol says
MAX_TEXT = 32 << 10  # of an error's message and of its traceback; the rest is cut off

MAX_AT_MS = 253_402_300_799_999  # the last millisecond that a datetime can be
MAX_LEVEL = 50
MAX_COUNT = 1_000_000_000  # of what an executor counts for people

MAX_SCHEMA_BYTES = 32 << 10  # of a handler's parameters; a larger one is left out
MAX_SCHEMAS_BYTES = 256 << 10  # of all handlers of an executor

MAX_COUNTS = 32  # names of what a shard's handler counts
_COUNT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_MS = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)
_STATES = {
    pb.OUTCOME_STATE_SUCCEEDED: OutcomeState.SUCCEEDED,
    pb.OUTCOME_STATE_FAILED: OutcomeState.FAILED,
    pb.OUTCOME_STATE_CANCELLED: OutcomeState.CANCELLED,
    pb.OUTCOME_STATE_SKIPPED: OutcomeState.SKIPPED,
    pb.OUTCOME_STATE_FENCED: OutcomeState.FENCED,
    pb.OUTCOME_STATE_RELEASED: OutcomeState.RELEASED,
}


def schemas_of(register: pb.Register) -> Mapping[HandlerName, str]:
    """By handler, those that are not too large to be kept and passed on."""
    found: dict[HandlerName, str] = {}
    left = MAX_SCHEMAS_BYTES
    for handler in register.handlers:
        size = len(handler.params_schema.encode())
        if 0 < size <= min(MAX_SCHEMA_BYTES, left):
            found[HandlerName(handler.name)] = handler.params_schema
            left -= size
    return found


def limits_of(register: pb.Register) -> Mapping[HandlerName, int]:
    """The slots of those handlers that have a limit of their own."""
    return {HandlerName(each.name): min(each.slots, MAX_COUNT) for each in register.handlers if each.slots}


def attempt_of(message: pb.Attempt) -> Attempt:
    return Attempt(RunId(message.run_id), min(message.shard, MAX_INDEX), min(message.term, MAX_NUMBER))


def attempt_message(attempt: Attempt) -> pb.Attempt:
    return pb.Attempt(run_id=attempt.run_id, shard=attempt.index, term=attempt.term)


def counters_of(message: pb.Counters) -> Counters:
    if not message.ByteSize():
        return NOTHING_YET
    numbers = (min(each, MAX_NUMBER) for each in (message.rows, message.published, message.done, message.total))
    rows, published, done, total = numbers
    return Counters(rows, published, text_of(message.cursor, MAX_RESULT), done, total, _counts_of(message))


def _counts_of(message: pb.Counters) -> str:
    """Of those that are told more than can be kept, the first by name."""
    names = sorted(name for name in message.counts if _COUNT_NAME.fullmatch(name))[:MAX_COUNTS]
    counts = {name: min(message.counts[name], MAX_NUMBER) for name in names}
    return json.dumps(counts, separators=(",", ":")) if counts else ""


def lines_of(message: pb.LogLines) -> Sequence[LogLine]:
    """Cut and held to what can be kept, whatever the executor said."""
    return [_line_of(line) for line in message.lines]


def _line_of(line: pb.LogLine) -> LogLine:
    at = _EPOCH + min(max(line.at_ms, 0), MAX_AT_MS) * _MS
    return LogLine(at, min(line.level, MAX_LEVEL), line.text[:MAX_LINE_CHARACTERS])


def outcome_of(message: pb.Outcome) -> Outcome:
    """Raises InvalidArgument for a state that this version does not know."""
    if message.state not in _STATES:
        raise InvalidArgument(reason=f"an outcome of state {message.state}")
    fault = _fault_of(message) if message.error_code else None
    return Outcome(
        attempt=attempt_of(message.attempt),
        state=_STATES[message.state],
        counters=counters_of(message.counters),
        result=text_of(message.result, MAX_RESULT),
        fault=fault,
        is_retryable=message.retryable,
        retry_after=message.retry_after_ms * _MS if message.retry_after_ms else None,
        broker_term=min(message.broker_term, MAX_NUMBER),
    )


def _fault_of(message: pb.Outcome) -> Fault:
    code, text, traceback = message.error_code, message.error_message, message.traceback
    return Fault(text_of(code, 100), text_of(text, MAX_TEXT), text_of(traceback, MAX_TEXT))


def text_of(text: str, most: int) -> str:
    """Up to so many characters; without the one that PostgreSQL does not keep."""
    return text[:most].replace("\x00", "\ufffd")


def assign_message(assignments: Sequence[Assignment]) -> pb.ConnectResponse:
    return pb.ConnectResponse(assign=pb.Assign(assignments=[_assignment(item) for item in assignments]))


def _assignment(assignment: Assignment) -> pb.Assignment:
    shard, run = assignment.shard, assignment.run
    return pb.Assignment(
        attempt=attempt_message(shard.current),
        job=run.job,
        handler=run.handler,
        total=run.total,
        attempt_number=shard.attempt,
        max_attempts=run.retry.attempts,
        params=run.params,
        timeout_ms=0 if run.timeout is None else run.timeout // _MS,
        pins=assignment.pins,
        fire_at_ms=round(run.fire_at.timestamp() * 1000),
        cause=run.cause,
        counts=counts_of(shard.counters),
    )


def cancel_message(attempt: Attempt, reason: str) -> pb.ConnectResponse:
    return pb.ConnectResponse(cancel=pb.Cancel(attempt=attempt_message(attempt), reason=reason))


def lost_message(attempt: Attempt) -> pb.ConnectResponse:
    return pb.ConnectResponse(lease_lost=pb.LeaseLost(attempt=attempt_message(attempt)))


def answer_message(attempt: Attempt, verdict: Verdict) -> pb.ReportAnswer:
    match verdict:
        case Verdict.ACCEPTED:
            value = pb.VERDICT_ACCEPTED
        case Verdict.SUPERSEDED:
            value = pb.VERDICT_SUPERSEDED
        case _:
            assert_never(verdict)
    return pb.ReportAnswer(attempt=attempt_message(attempt), verdict=value)
