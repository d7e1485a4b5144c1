"""The bodies of the REST interface."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from admin.domain.form import form_of, is_shallow
from admin.domain.job import Job
from admin.domain.logs import LoggedLine
from admin.domain.run import Run
from admin.domain.shard import Shard, ShardState, counts_of
from admin.operations.logs.reading import LogPage
from admin.ports import Executor, Token


def instant_text(instant: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(instant_text, return_type=str)]


class JobForm(BaseModel):
    """A job as a user writes it. What a field may hold is checked all at once when it is saved."""

    model_config = ConfigDict(extra="allow")

    name: object = None
    group: object = None
    handler: object = None
    trigger: Mapping[str, object] | None = None
    shards: int | str | None = None
    params: Mapping[str, object] | None = None
    retry: Mapping[str, object] | None = None
    timeout: str | None = None
    overlap: str | None = None
    overlap_limit: int | None = None
    misfire: str | None = None

    def form(self) -> dict[str, object]:
        return self.model_dump(exclude_unset=True)


class JobBody(BaseModel):
    """A job as it is kept."""

    name: str
    group: str
    handler: str
    trigger: dict[str, object]
    shards: int | str
    params: dict[str, object]
    retry: dict[str, object]
    timeout: str | None
    overlap: str
    overlap_limit: int | None
    misfire: str
    paused: bool
    version: int
    created_at: Instant
    updated_at: Instant
    next_fire_at: Instant | None


class JobsBody(BaseModel):
    jobs: list[JobBody]
    next_page_token: str = ""


class TriggerForm(BaseModel):
    """Params are laid over the job's own."""

    model_config = ConfigDict(extra="forbid")

    params: dict[str, object] = {}


class PreviewForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    trigger: dict[str, object]
    after: datetime | None = None
    count: int = 10


class PreviewBody(BaseModel):
    fire_times: list[Instant]


class RunBody(BaseModel):
    id: str
    job: str
    state: str
    cause: str
    fire_time: Instant
    started_at: Instant | None
    ended_at: Instant | None
    shards: int
    params: dict[str, object]
    handler: str
    group: str
    reason: str


class RunsBody(BaseModel):
    runs: list[RunBody]
    next_page_token: str = ""


class ShardBody(BaseModel):
    index: int
    total: int
    state: str
    attempt: int
    term: int
    holder: str
    rows: int
    published: int
    cursor: object
    error_code: str
    error_message: str
    traceback: str
    result: object
    done: int
    done_total: int
    due_at: Instant | None
    counters: dict[str, int]
    started_at: Instant | None
    ended_at: Instant | None


class ShardsBody(BaseModel):
    """`counters` are the sums over the shards."""

    shards: list[ShardBody]
    counters: dict[str, int]


class LogLineBody(BaseModel):
    """A line that a handler logged; where `dropped` is not 0 it says that so many were dropped here."""

    at: Instant
    level: int
    shard: int
    attempt: int
    term: int
    text: str
    dropped: int


class LogBody(BaseModel):
    """Lines behind `after`, the position to go on behind, whether there are more, and whether the run has ended: if so,
    none comes behind those that there are."""

    lines: list[LogLineBody]
    position: str
    more: bool
    ended: bool


class ExecutorBody(BaseModel):
    id: str
    name: str
    group: str
    handlers: list[str]
    slots: int
    used: int
    draining: bool
    version: str
    connected_at: Instant
    seen_at: Instant


class FleetBody(BaseModel):
    executors: list[ExecutorBody]


class TokenForm(BaseModel):
    """Without a group: an administrator's."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    group: str | None = Field(None, min_length=1, max_length=100)


class TokenBody(BaseModel):
    id: str
    name: str
    role: str
    group: str | None
    created_at: Instant


class NewTokenBody(TokenBody):
    token: str


class TokensBody(BaseModel):
    tokens: list[TokenBody]


def job_body(job: Job) -> JobBody:
    return JobBody.model_validate(
        {
            **form_of(job.definition),
            "paused": job.is_paused,
            "version": job.version,
            "created_at": job.created_at,
            "updated_at": job.updated_at,
            "next_fire_at": job.next_fire_at,
        }
    )


def run_body(run: Run) -> RunBody:
    return RunBody(
        id=run.id,
        job=run.job,
        state=run.state,
        cause=run.cause,
        fire_time=run.fire_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        shards=run.total,
        params=json.loads(run.params),
        handler=run.handler,
        group=run.group,
        reason=run.reason,
    )


def shard_body(shard: Shard) -> ShardBody:
    fault = shard.fault
    return ShardBody(
        index=shard.index,
        total=shard.total,
        state=shard.state,
        attempt=shard.attempt,
        term=shard.term,
        holder=shard.holder_name,
        rows=shard.counters.rows,
        published=shard.counters.published,
        cursor=_value(shard.counters.cursor),
        error_code=fault.code if fault else "",
        error_message=fault.message if fault else "",
        traceback=fault.traceback if fault else "",
        result=_value(shard.result),
        done=shard.counters.done,
        done_total=shard.counters.total,
        due_at=shard.due_at if shard.state is ShardState.WAITING else None,
        counters=dict(counts_of(shard.counters)),
        started_at=shard.started_at,
        ended_at=shard.ended_at,
    )


def log_body(page: LogPage) -> LogBody:
    lines = [_log_line_body(line) for line in page.lines]
    return LogBody(lines=lines, position=str(page.position), more=page.has_more, ended=page.has_ended)


def _log_line_body(logged: LoggedLine) -> LogLineBody:
    return LogLineBody(
        at=logged.line.at,
        level=logged.line.level,
        shard=logged.attempt.index,
        attempt=logged.number,
        term=logged.attempt.term,
        text=logged.line.text,
        dropped=logged.dropped,
    )


def _value(text: str) -> object:
    """JSON text as what it says; text that is none, or says what cannot be shown, as it is."""
    try:
        value = json.loads(text) if text else None
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return text
    return value if is_shallow(value) else text


def executor_body(executor: Executor) -> ExecutorBody:
    return ExecutorBody(
        id=executor.id,
        name=executor.name,
        group=executor.group,
        handlers=sorted(executor.handlers),
        slots=executor.slots,
        used=executor.used,
        draining=executor.is_draining,
        version=executor.version,
        connected_at=executor.connected_at,
        seen_at=executor.seen_at,
    )


def token_body(token: Token) -> TokenBody:
    role = "admin" if token.group is None else "group"
    return TokenBody(id=token.id, name=token.name, role=role, group=token.group, created_at=token.created_at)
