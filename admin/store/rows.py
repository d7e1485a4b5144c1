"""Rows of the tables to the domain's data, and back."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import overload

from sqlalchemy import Row

from admin.domain.form import definition_of, form_of
from admin.domain.job import Job
from admin.domain.names import ExecutorId, Group, HandlerName, JobName, RunId, TokenId
from admin.domain.retry import Backoff, RetryPolicy
from admin.domain.run import Cause, Run, RunState
from admin.domain.shard import Counters, Fault, Shard, ShardState
from admin.ports import Token

Values = Mapping[str, object]
_MS = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


@overload
def ms_of(instant: datetime) -> int: ...
@overload
def ms_of(instant: None) -> None: ...
def ms_of(instant: datetime | None) -> int | None:
    """Milliseconds since the epoch, rounded down."""
    return None if instant is None else (instant - _EPOCH) // _MS


@overload
def instant_of(ms: int) -> datetime: ...
@overload
def instant_of(ms: None) -> None: ...
def instant_of(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + ms * _MS


def job_of(row: Row[tuple[object, ...]]) -> Job:
    return Job(
        definition=definition_of(json.loads(row.definition)),
        is_paused=row.is_paused,
        version=row.version,
        created_at=instant_of(row.created_ms),
        updated_at=instant_of(row.updated_ms),
        next_fire_at=instant_of(row.next_fire_ms),
    )


def job_values(job: Job) -> Values:
    return {
        "name": job.name,
        "group_name": job.definition.group,
        "version": job.version,
        "is_paused": job.is_paused,
        "next_fire_ms": ms_of(job.next_fire_at),
        "created_ms": ms_of(job.created_at),
        "updated_ms": ms_of(job.updated_at),
        "definition": json.dumps(form_of(job.definition), ensure_ascii=False),
    }


def run_of(row: Row[tuple[object, ...]]) -> Run:
    retry, timeout = _policies_of(row.policies)
    return Run(
        id=RunId(row.id),
        job=JobName(row.job),
        group=Group(row.group_name),
        handler=HandlerName(row.handler),
        state=RunState(row.state),
        cause=Cause(row.cause),
        key=row.run_key,
        fire_at=instant_of(row.fire_ms),
        total=row.total,
        params=row.params,
        retry=retry,
        timeout=timeout,
        started_at=instant_of(row.started_ms),
        ended_at=instant_of(row.ended_ms),
        cancelled_at=instant_of(row.cancelled_ms),
        reason=row.reason,
    )


def run_values(run: Run) -> Values:
    return {
        "id": run.id,
        "job": run.job,
        "group_name": run.group,
        "handler": run.handler,
        "state": str(run.state),
        "cause": str(run.cause),
        "run_key": run.key,
        "fire_ms": ms_of(run.fire_at),
        "total": run.total,
        "params": run.params,
        "policies": _policies_text(run),
        "started_ms": ms_of(run.started_at),
        "ended_ms": ms_of(run.ended_at),
        "cancelled_ms": ms_of(run.cancelled_at),
        "reason": run.reason,
    }


def _policies_text(run: Run) -> str:
    return json.dumps(
        {
            "attempts": run.retry.attempts,
            "backoff": run.retry.backoff,
            "initial_ms": run.retry.initial // _MS,
            "max_ms": run.retry.max // _MS,
            "timeout_ms": None if run.timeout is None else run.timeout // _MS,
        }
    )


def _policies_of(text: str) -> tuple[RetryPolicy, timedelta | None]:
    form = json.loads(text)
    retry = RetryPolicy(form["attempts"], Backoff(form["backoff"]), form["initial_ms"] * _MS, form["max_ms"] * _MS)
    return retry, None if form["timeout_ms"] is None else form["timeout_ms"] * _MS


def shard_of(row: Row[tuple[object, ...]]) -> Shard:
    return Shard(
        run_id=RunId(row.run_id),
        index=row.shard_index,
        total=row.total,
        state=ShardState(row.state),
        due_at=instant_of(row.due_ms),
        attempt=row.attempt,
        term=row.term,
        losses=row.losses,
        reported_term=row.reported_term,
        holder=None if row.holder is None else ExecutorId(row.holder),
        holder_name=row.holder_name,
        leased_until_at=instant_of(row.leased_until_ms),
        started_at=instant_of(row.started_ms),
        ended_at=instant_of(row.ended_ms),
        counters=Counters(row.row_count, row.published, row.cursor_text, row.done, row.done_total),
        fault=None if row.error_code is None else Fault(row.error_code, row.error_message or "", row.traceback or ""),
        result=row.result,
    )


def shard_values(shard: Shard) -> Values:
    """All columns but those that never change: the names of the run, group and handler."""
    return {
        "shard_index": shard.index,
        "total": shard.total,
        "state": str(shard.state),
        "due_ms": ms_of(shard.due_at),
        "attempt": shard.attempt,
        "term": shard.term,
        "losses": shard.losses,
        "reported_term": shard.reported_term,
        "holder": shard.holder,
        "holder_name": shard.holder_name,
        "leased_until_ms": ms_of(shard.leased_until_at),
        "started_ms": ms_of(shard.started_at),
        "ended_ms": ms_of(shard.ended_at),
        **counter_values(shard.counters),
        "error_code": shard.fault.code if shard.fault else None,
        "error_message": shard.fault.message if shard.fault else None,
        "traceback": shard.fault.traceback if shard.fault else None,
        "result": shard.result,
    }


def counter_values(counters: Counters) -> Values:
    return {
        "row_count": counters.rows,
        "published": counters.published,
        "cursor_text": counters.cursor,
        "done": counters.done,
        "done_total": counters.total,
    }


def token_of(row: Row[tuple[object, ...]]) -> Token:
    group = None if row.group_name is None else Group(row.group_name)
    return Token(TokenId(row.id), row.name, group, instant_of(row.created_ms))
