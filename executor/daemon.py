"""The executor's daemon: the one file that knows the concrete classes."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import structlog

from broker.client.publishing.shard_producer import ShardProducer
from executor.app import Executor
from executor.errors import LifespanFailed, line_of
from executor.handlers.shell import with_shell
from executor.limits.current import using
from executor.limits.limits import Limits
from executor.link.link import Desk
from executor.link.outbox import open_outbox
from executor.link.outgoing import Outgoing, Pins, Reports
from executor.link.session import Identity, Session
from executor.model import AttemptKey, ExecutorId
from executor.probe.tally import Figures
from executor.registry import Registry
from executor.running.attempt import World
from executor.running.listening.joining import BrokerGroups
from executor.running.listening.listening import Listening
from executor.running.runner import Runner
from executor.running.shard import OpenProducer
from executor.settings import ExecutorSettings
from executor.sharding.publish import Producer

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 5.0  # of a drain, for the admin to accept the last reports; the rest waits on disk


class Daemon:
    """An executor that dials an admin and listens to probes alone, if at all."""

    def __init__(
        self,
        settings: ExecutorSettings,
        session: Session,
        runner: Runner,
        reports: Reports,
        listening: Sequence[Listening],
        *,
        endpoints: Mapping[str, str],
        limits: Limits | None = None,
    ) -> None:
        self._settings = settings
        self._session = session
        self._runner = runner
        self._reports = reports
        self._listening = listening
        self._endpoints = endpoints
        self._limits = limits
        self._stopping = asyncio.Event()

    @property
    def endpoints(self) -> Mapping[str, str]:
        return self._endpoints

    async def ready(self) -> None:
        """Returns once an admin has let it in."""
        await self._session.welcomed.wait()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Runs shards and listeners until `stop`, then drains. Raises a group of what Session.run raises.

        Cancelled, it leaves at once, without a word to anybody.
        """
        try:
            with using(self._limits):  # tasks and threads inherit it, down to handlers and listeners
                await self._work()
        finally:
            await self._runner.leave()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            linking = group.create_task(self._session.run())
            listening = [group.create_task(listener.run()) for listener in self._listening]
            await self._stopping.wait()
            await self._drain(listening)
            for task in (linking, *listening):
                task.cancel()

    async def _drain(self, listening: Sequence[asyncio.Task[None]]) -> None:
        draining = self._runner.drain(self._settings.release_seconds, self._settings.drain_seconds)
        self._session.urge()
        for listener in self._listening:
            listener.stop()
        await asyncio.wait((draining, *listening), timeout=self._settings.drain_seconds + FLUSH_SECONDS)
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._reports.emptied()
        except TimeoutError:
            log.warning(
                "reports wait on disk", action="reports_left", attempts=[str(key) for key in self._reports.keys]
            )


@asynccontextmanager
async def build(
    settings: ExecutorSettings, app: Executor, *, chance: Callable[[], float] = random.random
) -> AsyncIterator[Daemon]:
    """An executor that is about to dial. Raises DirectoryUnusable, AddressInUse or LifespanFailed."""
    executor_id = ExecutorId(uuid.uuid4().hex)
    async with AsyncExitStack() as stack:
        outbox = stack.enter_context(open_outbox(settings.data, executor_id, app.group))
        state = await stack.enter_async_context(_living(app))
        registry, outgoing = with_shell(app.registry, settings.allowed_programs), Outgoing()
        pins, reports = Pins(outgoing), Reports(outbox, outgoing)
        world = World(registry, _opener(settings), pins.propose, lambda: datetime.now(UTC), time.monotonic, state)
        runner = Runner(world, settings.slots, reports.deliver)
        drain = partial(runner.drain, settings.release_seconds, settings.drain_seconds)
        desk = Desk(runner, outgoing, pins, reports, drain, time.monotonic)
        identity = _identity(settings, app.group, executor_id, registry)
        session = Session(identity, desk, connect_seconds=settings.connect_seconds, jitter=chance)
        groups = BrokerGroups(settings.broker, settings.broker_token)
        listening = [Listening(listener, groups, state) for listener in registry.listeners]
        if app.limits is not None:
            stack.callback(app.limits.close)
        endpoints = await stack.enter_async_context(_probed(settings, partial(_look, runner, session, reports)))
        yield Daemon(settings, session, runner, reports, listening, endpoints=endpoints, limits=app.limits)


@asynccontextmanager
async def _probed(settings: ExecutorSettings, look: Callable[[], Figures]) -> AsyncIterator[Mapping[str, str]]:
    """Where probes are answered, if they are."""
    if settings.probe_port is None:
        yield {}
        return
    from executor.probe.server import serve_probe  # its web server takes memory that most executors do not need

    async with serve_probe(settings.host, settings.probe_port, look) as port:
        yield {"probe": f"{settings.host}:{port}"}


def _look(runner: Runner, session: Session, reports: Reports) -> Figures:
    rows, published = runner.gained
    return Figures(
        tally=runner.tally,
        rows=rows,
        published=published,
        in_progress=runner.in_progress,
        slots=runner.slots,
        reports_waiting=len(reports.keys),
        was_welcomed=session.welcomed.is_set(),
        is_linked=session.is_linked,
        is_draining=runner.is_draining,
    )


@asynccontextmanager
async def _living(app: Executor) -> AsyncIterator[object]:
    """What the app's lifespan yields, until all that ran has ended. Raises LifespanFailed."""
    async with AsyncExitStack() as stack:
        try:
            state = await stack.enter_async_context(app.lifespan()) if app.lifespan is not None else None
        except Exception as error:
            raise LifespanFailed(what="began", reason=line_of(error)) from error
        yield state
        try:
            await stack.aclose()
        except Exception as error:
            raise LifespanFailed(what="ended", reason=line_of(error)) from error


def _identity(settings: ExecutorSettings, group: str, executor_id: ExecutorId, registry: Registry) -> Identity:
    return Identity(
        addresses=settings.admins,
        token=settings.token,
        group=group,
        executor_id=executor_id,
        name=settings.name,
        version=_version(),
        registry=registry,
    )


def _opener(settings: ExecutorSettings) -> OpenProducer:
    def open_producer(key: AttemptKey) -> AbstractAsyncContextManager[Producer]:
        holder_id = uuid.uuid4().hex
        return ShardProducer(
            settings.broker, key.producer_id, term=key.term, holder_id=holder_id, token=settings.broker_token
        )

    return open_producer


def _version() -> str:
    try:
        return version("shardcast")
    except PackageNotFoundError:  # run from a source tree
        return ""
