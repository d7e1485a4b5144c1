"""The admin's API as an operator uses it, with many calls in flight."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import grpc.aio
import httpx

from benchmarks.scheduler.daemons import Admin, Overwhelmed
from benchmarks.scheduler.ledger import HANDLER
from protos.admin.v1 import job_pb2, run_pb2
from protos.admin.v1.job_pb2_grpc import JobServiceStub
from protos.admin.v1.run_pb2_grpc import RunServiceStub
from protos.channel import bearer, dial

IN_FLIGHT = 64
CALL_SECONDS = 60.0
GROUP = "bench"
CAN_SPREAD = "start" in job_pb2.Trigger.DESCRIPTOR.fields_by_name
SPREAD = "spread over the second by start" if CAN_SPREAD else "all due at the whole second"
_CREATES_A_SECOND = 500  # a guess: how far ahead a spread trigger starts
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs to be made, numbered from `first` on; names have 20 characters. `trigger` gets the number of the job."""

    count: int
    trigger: Callable[[int], job_pb2.Trigger]
    first: int = 0
    group: str = GROUP
    overlap: str = "allow"
    misfire: str = "fire_all"
    begin_ms: float = 0.0  # none is due before, where the admin can be told so

    def each(self) -> Iterable[job_pb2.Job]:
        for number in range(self.first, self.first + self.count):
            yield job_pb2.Job(
                name=f"bench-runs-{number:09}",
                group=self.group,
                handler=HANDLER,
                trigger=self.trigger(number),
                overlap=self.overlap,
                misfire=self.misfire,
            )


class Api:
    """One channel of gRPC and one client of REST, both with the administrator's token."""

    def __init__(self, channel: grpc.aio.Channel, http: httpx.AsyncClient, token: str) -> None:
        self._jobs = JobServiceStub(channel)
        self._runs = RunServiceStub(channel)
        self._http = http
        self._metadata = bearer(token)

    async def create(self, jobs: Jobs, in_flight: int = IN_FLIGHT) -> float:
        """The seconds it took. Raises Overwhelmed."""

        async def create(job: job_pb2.Job) -> None:
            request = job_pb2.JobServiceCreateRequest(job=job)
            await self._jobs.Create(request, metadata=self._metadata, timeout=CALL_SECONDS)

        try:
            return await at_once(in_flight, create, jobs.each())
        except* grpc.aio.AioRpcError as errors:
            raise Overwhelmed(f"the admin did not take {jobs.count:,} jobs: {_first(errors)}") from None

    async def trigger_grpc(self, job: str) -> None:
        request = job_pb2.JobServiceTriggerRequest(name=job)
        await self._jobs.Trigger(request, metadata=self._metadata, timeout=CALL_SECONDS)

    async def trigger_rest(self, job: str) -> None:
        response = await self._http.post(f"/jobs/{job}/trigger", json={})
        response.raise_for_status()

    async def runs(self) -> list[run_pb2.Run]:
        """All, newest first."""
        found: list[run_pb2.Run] = []
        request = run_pb2.RunServiceListRequest(page_size=_PAGE)
        while True:
            page = await self._runs.List(request, metadata=self._metadata, timeout=CALL_SECONDS)
            found += page.runs
            if not page.next_page_token:
                return found
            request = run_pb2.RunServiceListRequest(page_size=_PAGE, page_token=page.next_page_token)


def _first(errors: BaseExceptionGroup[grpc.aio.AioRpcError]) -> str:
    error = errors.exceptions[0]
    return f"{error.code().name} {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else _first(error)


@asynccontextmanager
async def calling(admin: Admin) -> AsyncIterator[Api]:
    token = admin.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    http = httpx.AsyncClient(
        base_url=f"{admin.http}/api/v1", headers=headers, trust_env=False, timeout=CALL_SECONDS, limits=limits
    )
    async with http, dial(admin.grpc) as channel:
        yield Api(channel, http, token)


async def at_once(in_flight: int, call: Callable[..., Awaitable[None]], items: Iterable[object]) -> float:
    """Calls for each item, with so many calls under way at any time; the seconds it took."""
    left = iter(items)

    async def keep_calling() -> None:
        for item in left:
            await call(item)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(keep_calling())
    return time.perf_counter() - began


def one_second_jobs(count: int, first: int = 0, group: str = GROUP) -> Jobs:
    """Each due at another millisecond of the second where the admin knows `start`, which lies ahead of their making."""
    ahead = timedelta(seconds=math.ceil(1 + count / _CREATES_A_SECOND)) if CAN_SPREAD else timedelta()
    begin = datetime.now(UTC).replace(microsecond=0) + ahead

    def trigger(number: int) -> job_pb2.Trigger:
        found = job_pb2.Trigger(every="1s")
        if CAN_SPREAD:
            start = begin + timedelta(milliseconds=(number - first) * 1_000 // count)
            setattr(found, "start", start.isoformat(timespec="milliseconds").replace("+00:00", "Z"))  # noqa: B010
        return found

    return Jobs(count, trigger, first, group, begin_ms=1_000 * begin.timestamp())


def manual(_: int) -> job_pb2.Trigger:
    return job_pb2.Trigger(manual=True)


def once(at: datetime) -> Callable[[int], job_pb2.Trigger]:
    return lambda _: job_pb2.Trigger(at=at.isoformat())


def with_defaults(jobs: Jobs) -> Jobs:
    """As a user leaves them: overlap skip, misfire fire_once."""
    return replace(jobs, overlap="skip", misfire="fire_once")
