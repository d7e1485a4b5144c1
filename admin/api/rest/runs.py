"""Runs and their shards over REST."""

from typing import Annotated

from fastapi import APIRouter, Query

from admin.api.rest.jobs import MAX_PAGE, PAGE, IdempotencyKey
from admin.api.rest.models import LogBody, RunBody, RunsBody, ShardsBody, log_body, run_body, shard_body
from admin.domain.logs import Position
from admin.domain.names import JobName, RunId
from admin.domain.run import RunState
from admin.domain.shard import sum_of_counts
from admin.operations.logs.reading import Logs
from admin.operations.runs import Runs

PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE)]

ShardIndex = Annotated[int | None, Query(ge=0, le=(1 << 32) - 1)]


def runs_router(runs: Runs, logs: Logs) -> APIRouter:
    router = APIRouter(prefix="/runs", tags=["runs"])

    @router.get("")
    async def list_runs(
        job: str | None = None, state: RunState | None = None, page_size: PageSize = PAGE, page_token: str = ""
    ) -> RunsBody:
        page = await runs.list(job=JobName(job) if job else None, state=state, before=page_token, size=page_size)
        return RunsBody(runs=[run_body(run) for run in page.items], next_page_token=page.next_token)

    @router.get("/{run_id}")
    async def get_run(run_id: str) -> RunBody:
        return run_body(await runs.get(RunId(run_id)))

    @router.get("/{run_id}/shards")
    async def list_shards(run_id: str) -> ShardsBody:
        shards = await runs.list_shards(RunId(run_id))
        return ShardsBody(shards=[shard_body(shard) for shard in shards], counters=dict(sum_of_counts(shards)))

    @router.get("/{run_id}/logs")
    async def list_logs(run_id: str, shard: ShardIndex = None, after: str = "", limit: PageSize = PAGE) -> LogBody:
        """In the order in which they were stored. Whoever follows asks again behind `position` until `ended`."""
        return log_body(await logs.list(RunId(run_id), after=Position.parse(after), shard=shard, limit=limit))

    @router.post("/{run_id}/cancel")
    async def cancel_run(run_id: str) -> RunBody:
        return run_body(await runs.cancel(RunId(run_id)))

    @router.post("/{run_id}/retry")
    async def retry_run(run_id: str) -> RunBody:
        return run_body(await runs.retry(RunId(run_id)))

    @router.post("/{run_id}/rerun", status_code=201)
    async def rerun_run(run_id: str, idempotency_key: IdempotencyKey = None) -> RunBody:
        return run_body(await runs.rerun(RunId(run_id), idempotency_key))

    return router
