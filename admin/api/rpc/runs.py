"""RunService: message in, one call, message out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin.api.rpc.convert import log_line_message, run_message, shard_message
from admin.api.rpc.jobs import page_size
from admin.domain.logs import Position
from admin.domain.names import JobName, RunId
from admin.domain.run import RunState
from admin.domain.shard import sum_of_counts
from protos.admin.v1 import run_pb2 as pb
from protos.admin.v1 import run_pb2_grpc
from protos.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc.aio import ServicerContext

    from admin.operations.logs.reading import Logs
    from admin.operations.runs import Runs


class RunService(run_pb2_grpc.RunServiceServicer):
    """Runs over gRPC."""

    def __init__(self, runs: Runs, logs: Logs) -> None:
        self._runs = runs
        self._logs = logs

    async def Get(
        self,
        request: pb.RunServiceGetRequest,
        context: ServicerContext[pb.RunServiceGetRequest, pb.RunServiceGetResponse],
    ) -> pb.RunServiceGetResponse:
        return pb.RunServiceGetResponse(run=run_message(await self._runs.get(RunId(request.id))))

    async def List(
        self,
        request: pb.RunServiceListRequest,
        context: ServicerContext[pb.RunServiceListRequest, pb.RunServiceListResponse],
    ) -> pb.RunServiceListResponse:
        page = await self._runs.list(
            job=JobName(request.job) if request.job else None,
            state=_state(request.state),
            before=request.page_token,
            size=page_size(request.page_size),
        )
        return pb.RunServiceListResponse(runs=map(run_message, page.items), next_page_token=page.next_token)

    async def Watch(
        self,
        request: pb.RunServiceWatchRequest,
        context: ServicerContext[pb.RunServiceWatchRequest, pb.RunServiceWatchResponse],
    ) -> AsyncIterator[pb.RunServiceWatchResponse]:
        async for run in self._runs.watch(RunId(request.id)):
            yield pb.RunServiceWatchResponse(run=run_message(run))

    async def ListShards(
        self,
        request: pb.RunServiceListShardsRequest,
        context: ServicerContext[pb.RunServiceListShardsRequest, pb.RunServiceListShardsResponse],
    ) -> pb.RunServiceListShardsResponse:
        shards = await self._runs.list_shards(RunId(request.id))
        return pb.RunServiceListShardsResponse(shards=map(shard_message, shards), counters=sum_of_counts(shards))

    async def Cancel(
        self,
        request: pb.RunServiceCancelRequest,
        context: ServicerContext[pb.RunServiceCancelRequest, pb.RunServiceCancelResponse],
    ) -> pb.RunServiceCancelResponse:
        return pb.RunServiceCancelResponse(run=run_message(await self._runs.cancel(RunId(request.id))))

    async def Retry(
        self,
        request: pb.RunServiceRetryRequest,
        context: ServicerContext[pb.RunServiceRetryRequest, pb.RunServiceRetryResponse],
    ) -> pb.RunServiceRetryResponse:
        return pb.RunServiceRetryResponse(run=run_message(await self._runs.retry(RunId(request.id))))

    async def Rerun(
        self,
        request: pb.RunServiceRerunRequest,
        context: ServicerContext[pb.RunServiceRerunRequest, pb.RunServiceRerunResponse],
    ) -> pb.RunServiceRerunResponse:
        return pb.RunServiceRerunResponse(run=run_message(await self._runs.rerun(RunId(request.id), None)))

    async def TailLogs(
        self,
        request: pb.RunServiceTailLogsRequest,
        context: ServicerContext[pb.RunServiceTailLogsRequest, pb.RunServiceTailLogsResponse],
    ) -> AsyncIterator[pb.RunServiceTailLogsResponse]:
        lines = self._logs.tail(
            RunId(request.id),
            after=Position.parse(request.after),
            shard=request.shard if request.HasField("shard") else None,
            follow=request.follow,
        )
        async for line in lines:
            yield log_line_message(line)


def _state(text: str) -> RunState | None:
    if not text:
        return None
    if text not in list(RunState):
        raise InvalidArgument(reason=f"{text!r} is no state of a run")
    return RunState(text)
