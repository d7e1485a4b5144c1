"""A whole admin in this process on free ports, and executors that do what a test says."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc.aio
import httpx

from admin.app import build
from admin.settings import AdminSettings
from protos.channel import bearer, dial, from_rpc_error
from protos.executor.v1 import link_pb2 as pb
from protos.executor.v1.link_pb2_grpc import LinkServiceStub

PATIENCE = 10.0  # seconds until a condition that never comes fails a test

BEAT_SECONDS = 0.2

Response = pb.ConnectResponse


T = TypeVar("T")


@dataclass
class RunningAdmin:
    """Where it listens and the tokens it made."""

    http: str
    grpc: str
    admin_token: str
    executor_token: str

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        secret = self.admin_token if token is None else token
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=f"{self.http}/api/v1", headers=headers, trust_env=False)


@asynccontextmanager
async def running_admin(
    data: Path,
    *,
    lease_seconds: float = 1.0,
    broker: str = "127.0.0.1:1",
    first: RunningAdmin | None = None,
    **more: object,
) -> AsyncIterator[RunningAdmin]:
    """`first` is the admin that made the tokens, where this is another one on its database."""
    settings = AdminSettings(
        data=data, http_port=0, grpc_port=0, lease_seconds=lease_seconds, drain_seconds=1, broker=broker, **more
    )
    async with build(settings) as house, asyncio.TaskGroup() as group:
        running = group.create_task(house.run())
        try:
            tokens = [(data / f"{name}.token").read_text() for name in ("admin", "executor")] if first is None else []
            admin_token, executor_token = tokens or (first.admin_token, first.executor_token)
            yield RunningAdmin(house.endpoints["http"], house.endpoints["grpc"], admin_token, executor_token)
        finally:
            house.stop()
            await asyncio.wait_for(running, PATIENCE)


NO_LIMITS: Mapping[str, int] = {}


class FakeExecutor:
    """One end of a link: what came is kept in order, what goes out is what the test says."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self._call = call
        self._came: list[Response] = []
        self._news = asyncio.Condition()
        self._beats = itertools.count(1)
        self._is_over = False
        self._error: grpc.aio.AioRpcError | None = None

    async def listen(self) -> None:
        try:
            async for response in self._call:
                await self._keep(response)
        except grpc.aio.AioRpcError as error:
            self._error = error
        except asyncio.CancelledError:
            pass
        finally:
            self._is_over = True
            async with self._news:
                self._news.notify_all()

    async def _keep(self, response: Response) -> None:
        async with self._news:
            self._came.append(response)
            self._news.notify_all()

    async def until(self, found: Callable[[list[Response]], T | None]) -> T:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: found(self._came) is not None)
        result = found(self._came)
        assert result is not None
        return result

    async def until_over(self) -> None:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self._is_over)

    def refusal(self) -> str | None:
        """The code under which the admin ended the link, None if it just closed it."""
        return None if self._error is None else from_rpc_error(self._error, "the admin").code

    def assignments(self) -> Iterator[pb.Assignment]:
        return itertools.chain.from_iterable(response.assign.assignments for response in self._came)

    async def assigned(self, count: int) -> list[pb.Assignment]:
        """All assignments so far, at least `count`."""

        def found(_: list[Response]) -> list[pb.Assignment] | None:
            so_far = list(self.assignments())
            return so_far if len(so_far) >= count else None

        return await self.until(found)

    async def came(self, kind: str) -> Response:
        return await self.until(lambda came: next((r for r in came if r.WhichOneof("kind") == kind), None))

    async def say(self, **message: object) -> None:
        await self._call.write(pb.ConnectRequest(**message))

    async def beat(self, *attempts: pb.Attempt) -> pb.BeatAccepted:
        number = next(self._beats)
        await self.say(beat=pb.Beat(number=number, held=attempts))
        return await self.until(
            lambda came: next((r.beat_accepted for r in came if r.beat_accepted.number == number), None)
        )

    async def keep_beating(self) -> None:
        await self.came("welcome")
        while True:
            await self.beat()
            await asyncio.sleep(BEAT_SECONDS)

    async def report(self, attempt: pb.Attempt, state: pb.OutcomeState = pb.OUTCOME_STATE_SUCCEEDED, **fields: object):
        """Reports, and gives the verdict of this report. Beats first, as it goes on living."""
        before = len(self._answers(attempt))
        held = [given.attempt for given in self.assignments() if not self._answers(given.attempt)]
        await self.say(beat=pb.Beat(number=next(self._beats), held=held))
        outcome = pb.Outcome(attempt=attempt, state=state, **fields)
        await self.say(report=pb.Report(outcomes=[outcome]))
        answers = await self.until(lambda _: found if len(found := self._answers(attempt)) > before else None)
        return answers[-1].verdict

    def _answers(self, attempt: pb.Attempt) -> list[pb.ReportAnswer]:
        answers = itertools.chain.from_iterable(response.report_accepted.answers for response in self._came)
        return [answer for answer in answers if answer.attempt == attempt]


@asynccontextmanager
async def connected(
    admin: RunningAdmin,
    executor_id: str = "one",
    *,
    handlers: tuple[str, ...] = ("push",),
    schema: str = "",
    slots: int = 8,
    limits: Mapping[str, int] = NO_LIMITS,
    group: str = "promotion",
    token: str | None = None,
    held: tuple[pb.Attempt, ...] = (),
    is_beating: bool = False,
) -> AsyncIterator[FakeExecutor]:
    """An executor that has registered; leaving cuts the link, as a killed process does.

    One that is beating says that it is alive, and holds on to nothing.
    """
    secret = admin.executor_token if token is None else token
    async with dial(admin.grpc) as channel:
        call = LinkServiceStub(channel).Connect(metadata=bearer(secret))
        register = pb.Register(
            group=group,
            executor_id=executor_id,
            name=f"name of {executor_id}",
            handlers=[pb.Handler(name=name, params_schema=schema, slots=limits.get(name, 0)) for name in handlers],
            slots=slots,
            held=held,
        )
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # refused before it was written
            await call.write(pb.ConnectRequest(register=register))
        executor = FakeExecutor(call)
        listening = asyncio.create_task(executor.listen())
        beating = asyncio.create_task(executor.keep_beating()) if is_beating else None
        try:
            yield executor
        finally:
            if beating is not None:
                beating.cancel()
            call.cancel()
            await listening


async def until(check: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Until an awaitable check is true."""
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.02)


JOB = {"name": "promotion-push", "group": "promotion", "handler": "push", "shards": 2}
