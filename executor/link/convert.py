"""Messages of the link to our data and back; nothing else in the executor knows both."""

from datetime import UTC, datetime, timedelta

from executor.model import Assignment, AttemptKey, Counters, LogLine, Outcome, OutcomeState, RunId, Term
from executor.registry import Registry
from executor.running.runlog import LogBatch
from protos.executor.v1 import link_pb2 as pb

MAX_UINT32 = 2**32 - 1
LINES_A_MESSAGE = 100  # of the longest: 1.6 MB

_STATES = {
    OutcomeState.SUCCEEDED: pb.OUTCOME_STATE_SUCCEEDED,
    OutcomeState.FAILED: pb.OUTCOME_STATE_FAILED,
    OutcomeState.CANCELLED: pb.OUTCOME_STATE_CANCELLED,
    OutcomeState.SKIPPED: pb.OUTCOME_STATE_SKIPPED,
    OutcomeState.FENCED: pb.OUTCOME_STATE_FENCED,
    OutcomeState.RELEASED: pb.OUTCOME_STATE_RELEASED,
}


def key_of(attempt: pb.Attempt) -> AttemptKey:
    return AttemptKey(RunId(attempt.run_id), attempt.shard, Term(attempt.term))


def attempt_of(key: AttemptKey) -> pb.Attempt:
    return pb.Attempt(run_id=key.run_id, shard=key.shard, term=key.term)


def assignment_of(message: pb.Assignment) -> Assignment:
    return Assignment(
        key=key_of(message.attempt),
        job=message.job,
        handler=message.handler,
        total=message.total,
        params=message.params,
        attempt_number=message.attempt_number,
        max_attempts=message.max_attempts,
        timeout=timedelta(milliseconds=message.timeout_ms) if message.timeout_ms else None,
        pins=dict(message.pins),
        fire_at=datetime.fromtimestamp(message.fire_at_ms / 1000, UTC) if message.fire_at_ms else None,
        cause=message.cause,
        counts=dict(message.counts),
    )


def handlers_of(registry: Registry) -> list[pb.Handler]:
    handlers = registry.handlers.values()
    return [
        pb.Handler(name=handler.name, params_schema=handler.params_schema, slots=handler.manner.slots or 0)
        for handler in handlers
    ]


def counters_of(counters: Counters) -> pb.Counters:
    return pb.Counters(
        rows=counters.rows,
        published=counters.published,
        cursor=counters.cursor,
        done=counters.done,
        total=counters.total,
        counts=counters.counts,
    )


def outcome_of(outcome: Outcome) -> pb.Outcome:
    return pb.Outcome(
        attempt=attempt_of(outcome.key),
        state=_STATES[outcome.state],
        result=outcome.result,
        error_code=outcome.error_code,
        error_message=_utf8(outcome.error_message),
        traceback=outcome.traceback,
        retryable=outcome.is_retryable,
        retry_after_ms=_wait_ms(outcome.retry_after),
        broker_term=outcome.broker_term,
        counters=counters_of(outcome.counters),
        started_at_ms=_ms(outcome.started_at),
        ended_at_ms=_ms(outcome.ended_at),
    )


def progress_of(key: AttemptKey, counters: Counters) -> pb.AttemptProgress:
    return pb.AttemptProgress(attempt=attempt_of(key), counters=counters_of(counters))


def log_lines_of(batch: LogBatch) -> list[pb.LogLines]:
    """In as many messages as no lines are too long for; the last one says how many were dropped."""
    portions = [batch.lines[start : start + LINES_A_MESSAGE] for start in range(0, len(batch.lines), LINES_A_MESSAGE)]
    attempt, number = attempt_of(batch.key), batch.attempt_number
    messages = [
        pb.LogLines(attempt=attempt, attempt_number=number, lines=map(_line_of, portion))
        for portion in portions or [()]
    ]
    messages[-1].dropped = batch.dropped
    return messages


def _line_of(line: LogLine) -> pb.LogLine:
    return pb.LogLine(at_ms=_ms(line.at), level=line.level, text=_utf8(line.text))


def _wait_ms(wait: timedelta | None) -> int:
    """0 says that the policy decides, so "at once" is a millisecond."""
    return 0 if wait is None else min(max(round(wait / timedelta(milliseconds=1)), 1), MAX_UINT32)


def _utf8(text: str) -> str:
    """What a handler says may hold halves of surrogate pairs, which the wire does not take."""
    return text.encode(errors="replace").decode()


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
