"""Dials one of the admins, registers, and goes on to the next one whenever the link breaks."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc.aio
import structlog

from executor.link.admins import Admins
from executor.link.convert import attempt_of, handlers_of
from executor.link.link import Desk, Link
from executor.model import ExecutorId
from executor.registry import Registry
from protos.channel import bearer, dial, renamed
from protos.errors import PermissionDenied, ShardcastError, TimedOut, Unauthenticated, Unreachable
from protos.executor.v1 import link_pb2 as pb
from protos.executor.v1.link_pb2_grpc import LinkServiceStub

log = structlog.get_logger(__name__)

Call = grpc.aio.StreamStreamCall[pb.ConnectRequest, pb.ConnectResponse]

WATCH_SECONDS = 0.2  # a lapsed lease is noticed so late at most; publishing looks for itself


@dataclass(frozen=True, slots=True)
class Identity:
    """Who registers, and where: with any one of these."""

    addresses: Sequence[str]
    token: str
    group: str
    executor_id: ExecutorId
    name: str
    version: str
    registry: Registry


class Session:
    """Keeps a link to one of the admins as long as it runs. Belongs to the daemon's loop."""

    def __init__(
        self,
        identity: Identity,
        desk: Desk,
        *,
        connect_seconds: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._identity = identity
        self._desk = desk
        self._connect_seconds = connect_seconds
        self._admins = Admins(identity.addresses, jitter)
        self._link: Link | None = None
        self.welcomed = asyncio.Event()
        """Set once an admin has let this executor in."""
        self._is_away = False

    async def run(self) -> None:
        """Links again and again until cancelled.

        Raises Unauthenticated or PermissionDenied when no admin ever let this executor in and all refuse to,
        Unreachable when none was found for `connect_seconds`.
        """
        watching = asyncio.create_task(self._watch_leases())
        try:
            await self._keep_linking()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    @property
    def is_linked(self) -> bool:
        return self._link is not None

    def urge(self) -> None:
        """Tells the admin at once that something changed."""
        if self._link is not None:
            self._link.urge()

    async def _keep_linking(self) -> None:
        begun_at = self._desk.monotonic()
        while True:
            try:
                await self._converse(self._admins.current)
            except (Unauthenticated, PermissionDenied) as error:
                self._refused(error)
            except ShardcastError as error:
                self._complain(error)
                self._admins.leave()
            self._link = None
            if self._is_given_up(begun_at):
                raise self._admins.unreachable()
            await asyncio.sleep(self._admins.pause_seconds)

    def _refused(self, error: ShardcastError) -> None:
        log.error("admin refuses this executor", action="link_refused", admin=self._admins.current, error=str(error))
        self._admins.leave(error)
        if not self.welcomed.is_set() and (refusal := self._admins.refusal) is not None:
            raise refusal

    async def _converse(self, address: str) -> None:
        channel = dial(address)
        try:
            with renamed(address):
                call = LinkServiceStub(channel).Connect(metadata=bearer(self._identity.token))
                begun_at, responses = self._desk.monotonic(), aiter(call)
                welcome = await self._register(call, responses, address)
                link = Link(self._desk, address, welcome, begun_at, are_others=self._admins.are_several)
                await self._stay(call, responses, link)
        finally:
            await channel.close()

    async def _stay(self, call: Call, responses: AsyncIterator[pb.ConnectResponse], link: Link) -> None:
        """Until the link breaks, which it raises."""
        self._link, since = link, self._desk.monotonic()
        self.welcomed.set()
        self._is_away = False
        log.info("linked", action="linked", admin=link.address)
        link.begin()
        try:
            parts = (link.hear(responses), self._write(call, link), link.keep_beating(), link.keep_telling())
            await _first_failure((*parts, link.keep_accepting()))
        finally:
            self._admins.stood(self._desk.monotonic() - since)

    async def _register(self, call: Call, responses: AsyncIterator[pb.ConnectResponse], address: str) -> pb.Welcome:
        identity = self._identity
        register = pb.Register(
            group=identity.group,
            executor_id=identity.executor_id,
            name=identity.name,
            handlers=handlers_of(identity.registry),
            slots=self._desk.runner.slots,
            held=[attempt_of(key) for key in self._desk.held],
            version=identity.version,
            draining=self._desk.runner.is_draining,
        )
        try:
            async with asyncio.timeout(self._admins.welcome_seconds):
                with suppress(asyncio.InvalidStateError):  # the stream has ended: reading tells why
                    await call.write(pb.ConnectRequest(register=register))
                async for response in responses:
                    if response.WhichOneof("kind") == "welcome":
                        return response.welcome
        except TimeoutError as error:
            raise TimedOut(address=address) from error
        raise Unreachable(address=address)

    async def _write(self, call: Call, link: Link) -> None:
        try:
            while True:
                request = await self._desk.outgoing.next()
                for each in (*link.said_before(request), request):
                    await call.write(each)
        except asyncio.InvalidStateError as error:
            raise Unreachable(address=link.address) from error

    async def _watch_leases(self) -> None:
        while True:
            self._desk.runner.lapse()
            await asyncio.sleep(WATCH_SECONDS)

    def _complain(self, error: ShardcastError) -> None:
        """Once until it is linked again."""
        if self._is_away:
            return
        self._is_away = True
        if self.welcomed.is_set():
            log.warning("link lost", action="link_lost", admin=self._admins.current, error=str(error))
        else:
            log.warning("admin not found yet", action="link_failed", admin=self._admins.current, error=str(error))

    def _is_given_up(self, begun_at: float) -> bool:
        return not self.welcomed.is_set() and self._desk.monotonic() - begun_at > self._connect_seconds


async def _first_failure(parts: Sequence[Coroutine[None, None, None]]) -> None:
    """Runs all until one fails, ends the others, raises its error; the first part's where several fail together."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
