"""Jobs and triggers over REST."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from admin.api.rest.models import (
    JobBody,
    JobForm,
    JobsBody,
    PreviewBody,
    PreviewForm,
    RunBody,
    TriggerForm,
    job_body,
    run_body,
)
from admin.domain.errors import InvalidJob
from admin.domain.form import definition_of
from admin.domain.job import Job
from admin.domain.names import Group, JobName
from admin.domain.trigger import trigger_of
from admin.operations.jobs import MAX_PREVIEW, Jobs
from protos.errors import InvalidArgument

PAGE = 100
MAX_PAGE = 1000
MAX_VERSION_DIGITS = 18

IfMatch = Annotated[str | None, Header(alias="If-Match")]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def jobs_router(jobs: Jobs) -> APIRouter:
    router = APIRouter(tags=["jobs"])

    @router.post("/jobs", status_code=201)
    async def create_job(form: JobForm, response: Response, idempotency_key: IdempotencyKey = None) -> JobBody:
        return _tagged(await jobs.create(definition_of(form.form()), idempotency_key), response)

    @router.get("/jobs")
    async def list_jobs(group: str | None = None, page_size: PageSize = PAGE, page_token: str = "") -> JobsBody:
        page = await jobs.list(group=Group(group) if group else None, after=page_token, size=page_size)
        return JobsBody(jobs=[job_body(job) for job in page.items], next_page_token=page.next_token)

    @router.get("/jobs/{name}")
    async def get_job(name: str, response: Response) -> JobBody:
        return _tagged(await jobs.get(JobName(name)), response)

    @router.put("/jobs/{name}")
    async def update_job(name: str, form: JobForm, response: Response, if_match: IfMatch = None) -> JobBody:
        fields = {"name": name, **form.form()}
        if fields["name"] != name:
            raise InvalidJob(reason=f"name: it is {name}, and a job keeps its name")
        return _tagged(await jobs.update(definition_of(fields), _version(if_match)), response)

    @router.delete("/jobs/{name}", status_code=204)
    async def delete_job(name: str, if_match: IfMatch = None) -> None:
        await jobs.delete(JobName(name), _version(if_match))

    return router


def orders_router(jobs: Jobs) -> APIRouter:
    router = APIRouter(tags=["jobs"])

    @router.post("/jobs/{name}/pause")
    async def pause_job(name: str, response: Response) -> JobBody:
        return _tagged(await jobs.pause(JobName(name)), response)

    @router.post("/jobs/{name}/resume")
    async def resume_job(name: str, response: Response) -> JobBody:
        return _tagged(await jobs.resume(JobName(name)), response)

    @router.post("/jobs/{name}/trigger", status_code=201)
    async def trigger_job(
        name: str, form: TriggerForm | None = None, idempotency_key: IdempotencyKey = None
    ) -> RunBody:
        params = form.params if form else {}
        return run_body(await jobs.trigger(JobName(name), params, idempotency_key))

    @router.post("/triggers/preview")
    async def preview_trigger(form: PreviewForm) -> PreviewBody:
        if not 1 <= form.count <= MAX_PREVIEW or (form.after is not None and form.after.tzinfo is None):
            raise InvalidArgument(reason=f"count is 1 to {MAX_PREVIEW}, and after needs an offset from UTC")
        try:
            trigger = trigger_of(form.trigger)
        except ValueError as error:
            raise InvalidArgument(reason=f"trigger: {error}") from error
        return PreviewBody(fire_times=list(jobs.preview(trigger, form.after, form.count)))

    return router


def _tagged(job: Job, response: Response) -> JobBody:
    response.headers["ETag"] = f'"{job.version}"'
    return job_body(job)


def _version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or len(text) > MAX_VERSION_DIGITS:
        raise InvalidArgument(reason="If-Match takes one ETag, as GET gave it")
    return int(text)
