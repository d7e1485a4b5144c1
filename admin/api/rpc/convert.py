"""Messages of the admin's services to plain forms and the domain's data, and back."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from admin.domain.form import form_of
from admin.domain.job import EXECUTORS, Job
from admin.domain.logs import LoggedLine
from admin.domain.run import Run
from admin.domain.shard import Shard, counts_of
from protos.admin.v1 import job_pb2, run_pb2
from protos.errors import InvalidArgument

_OPTIONS = ("time_zone", "skipped", "repeated", "start", "end", "jitter")
_COMBINED = ("any", "all")


def job_form(message: job_pb2.Job) -> dict[str, object]:
    """The plain form, in which what was not set is left out. Raises InvalidArgument for params that are no JSON."""
    texts = {name: getattr(message, name) for name in ("name", "group", "handler", "timeout", "overlap", "misfire")}
    form: dict[str, object] = {name: text for name, text in texts.items() if text}
    if message.HasField("trigger"):
        form["trigger"] = trigger_form(message.trigger)
    if message.HasField("shards"):
        form["shards"] = EXECUTORS if message.shards.executors else message.shards.count
    if message.params:
        form["params"] = params_of(message.params)
    if message.overlap_limit:
        form["overlap_limit"] = message.overlap_limit
    if message.HasField("retry"):
        form["retry"] = _retry_form(message.retry)
    return form


def trigger_form(message: job_pb2.Trigger) -> dict[str, object]:
    kind = message.WhichOneof("kind")
    form: dict[str, object] = {name: text for name in _OPTIONS if (text := getattr(message, name))}
    if kind in _COMBINED:
        form[kind] = [trigger_form(each) for each in getattr(message, kind).triggers]
    elif kind:
        form[kind] = getattr(message, kind)
    return form


def _trigger_message(form: Mapping[str, Any]) -> job_pb2.Trigger:
    combined = {
        name: job_pb2.Triggers(triggers=map(_trigger_message, form[name])) for name in _COMBINED if name in form
    }
    return job_pb2.Trigger(**{**form, **combined})


def _retry_form(message: job_pb2.Retry) -> dict[str, object]:
    fields = {name: getattr(message, name) for name in ("attempts", "backoff", "initial", "max", "jitter", "losses")}
    return {name: value for name, value in fields.items() if value}


def params_of(text: str) -> dict[str, object]:
    """Raises InvalidArgument."""
    try:
        params = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(reason=f"params are no JSON: {error}") from error
    if not isinstance(params, dict):
        raise InvalidArgument(reason="params are no JSON object")
    return params


def job_message(job: Job) -> job_pb2.Job:
    form = form_of(job.definition)
    shards, trigger, retry = form["shards"], form["trigger"], form["retry"]
    assert isinstance(trigger, Mapping)
    assert isinstance(retry, Mapping)
    return job_pb2.Job(
        name=job.name,
        group=job.definition.group,
        handler=job.definition.handler,
        trigger=_trigger_message(trigger),
        shards=job_pb2.Shards(count=shards) if isinstance(shards, int) else job_pb2.Shards(executors=True),
        params=job.definition.params,
        retry=job_pb2.Retry(**retry),
        timeout=str(form["timeout"] or ""),
        overlap=job.definition.overlap,
        misfire=job.definition.misfire,
        overlap_limit=job.definition.overlap_limit or 0,
        paused=job.is_paused,
        version=job.version,
        created_at_ms=ms_of(job.created_at),
        updated_at_ms=ms_of(job.updated_at),
        next_fire_at_ms=ms_of(job.next_fire_at),
    )


def run_message(run: Run) -> run_pb2.Run:
    return run_pb2.Run(
        id=run.id,
        job=run.job,
        state=run.state,
        cause=run.cause,
        fire_time_ms=ms_of(run.fire_at),
        started_at_ms=ms_of(run.started_at),
        ended_at_ms=ms_of(run.ended_at),
        shards=run.total,
        params=run.params,
        handler=run.handler,
        reason=run.reason,
    )


def shard_message(shard: Shard) -> run_pb2.Shard:
    return run_pb2.Shard(
        index=shard.index,
        total=shard.total,
        state=shard.state,
        attempt=shard.attempt,
        term=shard.term,
        holder=shard.holder_name,
        rows=shard.counters.rows,
        published=shard.counters.published,
        cursor=shard.counters.cursor,
        error_code=shard.fault.code if shard.fault else "",
        error_message=shard.fault.message if shard.fault else "",
        result=shard.result,
        started_at_ms=ms_of(shard.started_at),
        ended_at_ms=ms_of(shard.ended_at),
        counters=counts_of(shard.counters),
    )


def ms_of(instant: datetime | None) -> int:
    """Milliseconds since the epoch, 0 for none."""
    return 0 if instant is None else round(instant.timestamp() * 1000)


def log_line_message(logged: LoggedLine) -> run_pb2.RunServiceTailLogsResponse:
    return run_pb2.RunServiceTailLogsResponse(
        shard=logged.attempt.index,
        attempt=logged.number,
        at_ms=ms_of(logged.line.at),
        level=logged.line.level,
        text=logged.line.text,
        dropped=logged.dropped,
        term=logged.attempt.term,
        position=str(logged.position),
    )
