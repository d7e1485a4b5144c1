"""JobService: message in, one call, message out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from admin.api.rpc.convert import job_form, job_message, ms_of, params_of, run_message, trigger_form
from admin.domain.form import definition_of
from admin.domain.names import Group, JobName
from admin.domain.trigger import trigger_of
from protos.admin.v1 import job_pb2 as pb
from protos.admin.v1 import job_pb2_grpc
from protos.errors import InvalidArgument

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from admin.operations.jobs import Jobs

DEFAULT_PAGE, MAX_PAGE = 100, 1000
DEFAULT_PREVIEW = 10


class JobService(job_pb2_grpc.JobServiceServicer):
    """Jobs over gRPC."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def Create(
        self,
        request: pb.JobServiceCreateRequest,
        context: ServicerContext[pb.JobServiceCreateRequest, pb.JobServiceCreateResponse],
    ) -> pb.JobServiceCreateResponse:
        job = await self._jobs.create(definition_of(job_form(request.job)))
        return pb.JobServiceCreateResponse(job=job_message(job))

    async def Get(
        self,
        request: pb.JobServiceGetRequest,
        context: ServicerContext[pb.JobServiceGetRequest, pb.JobServiceGetResponse],
    ) -> pb.JobServiceGetResponse:
        return pb.JobServiceGetResponse(job=job_message(await self._jobs.get(JobName(request.name))))

    async def List(
        self,
        request: pb.JobServiceListRequest,
        context: ServicerContext[pb.JobServiceListRequest, pb.JobServiceListResponse],
    ) -> pb.JobServiceListResponse:
        group = Group(request.group) if request.group else None
        page = await self._jobs.list(group=group, after=request.page_token, size=page_size(request.page_size))
        return pb.JobServiceListResponse(jobs=map(job_message, page.items), next_page_token=page.next_token)

    async def Update(
        self,
        request: pb.JobServiceUpdateRequest,
        context: ServicerContext[pb.JobServiceUpdateRequest, pb.JobServiceUpdateResponse],
    ) -> pb.JobServiceUpdateResponse:
        job = await self._jobs.update(definition_of(job_form(request.job)), request.version or None)
        return pb.JobServiceUpdateResponse(job=job_message(job))

    async def Delete(
        self,
        request: pb.JobServiceDeleteRequest,
        context: ServicerContext[pb.JobServiceDeleteRequest, pb.JobServiceDeleteResponse],
    ) -> pb.JobServiceDeleteResponse:
        await self._jobs.delete(JobName(request.name), request.version or None)
        return pb.JobServiceDeleteResponse()

    async def Pause(
        self,
        request: pb.JobServicePauseRequest,
        context: ServicerContext[pb.JobServicePauseRequest, pb.JobServicePauseResponse],
    ) -> pb.JobServicePauseResponse:
        return pb.JobServicePauseResponse(job=job_message(await self._jobs.pause(JobName(request.name))))

    async def Resume(
        self,
        request: pb.JobServiceResumeRequest,
        context: ServicerContext[pb.JobServiceResumeRequest, pb.JobServiceResumeResponse],
    ) -> pb.JobServiceResumeResponse:
        return pb.JobServiceResumeResponse(job=job_message(await self._jobs.resume(JobName(request.name))))

    async def Trigger(
        self,
        request: pb.JobServiceTriggerRequest,
        context: ServicerContext[pb.JobServiceTriggerRequest, pb.JobServiceTriggerResponse],
    ) -> pb.JobServiceTriggerResponse:
        key = request.idempotency_key or None
        run = await self._jobs.trigger(JobName(request.name), params_of(request.params), key)
        return pb.JobServiceTriggerResponse(run=run_message(run))

    async def PreviewFireTimes(
        self,
        request: pb.JobServicePreviewFireTimesRequest,
        context: ServicerContext[pb.JobServicePreviewFireTimesRequest, pb.JobServicePreviewFireTimesResponse],
    ) -> pb.JobServicePreviewFireTimesResponse:
        try:
            trigger = trigger_of(trigger_form(request.trigger))
        except ValueError as error:
            raise InvalidArgument(reason=f"trigger: {error}") from error
        after = _instant_of(request.after_ms) if request.after_ms else None
        fires = self._jobs.preview(trigger, after, request.count or DEFAULT_PREVIEW)
        return pb.JobServicePreviewFireTimesResponse(fire_times_ms=map(ms_of, fires))


def _instant_of(ms: int) -> datetime:
    """Raises InvalidArgument."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(reason=f"{ms} ms lie outside the calendar") from error


def page_size(asked: int) -> int:
    """0 asks for the default. Raises InvalidArgument."""
    if asked > MAX_PAGE:
        raise InvalidArgument(reason=f"a page has at most {MAX_PAGE} items")
    return asked or DEFAULT_PAGE
