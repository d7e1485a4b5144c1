"""Builds the admin: the one file that names every concrete class."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket

import structlog
import uuid_utils
from filelock import FileLock, Timeout

from admin.api.rest.app import Operations, rest_app
from admin.api.rpc.services import admin_services, authorize_with
from admin.dispatch.grpc_session import Sessions
from admin.dispatch.link import LinkService
from admin.domain.names import AdminId, RunId
from admin.operations.access import Access
from admin.operations.attempts import Attempts
from admin.operations.fleet import Fleet, SharedFleet
from admin.operations.groups import GroupDesk
from admin.operations.jobs import Jobs
from admin.operations.logs.buffer import LogBuffer
from admin.operations.logs.reading import LogRetention, Logs
from admin.operations.runs import RunRetention, Runs
from admin.operations.topics import TopicDesk
from admin.ports import Clock, Wakeup
from admin.scheduler.dispatcher import Dispatcher
from admin.scheduler.handover import Handover
from admin.scheduler.log_writer import LogWriter
from admin.scheduler.loop import Loop
from admin.scheduler.planner import Planner
from admin.scheduler.pruner import Prunable, Pruner
from admin.scheduler.reaper import Reaper
from admin.scheduler.registrar import Registrar
from admin.scheduler.starter import Starter
from admin.settings import AdminSettings
from admin.store.databases.database import Database
from admin.store.fleet import SqlFleet
from admin.store.jobs import SqlJobs
from admin.store.logs import SqlRunLogs
from admin.store.opening import is_shared, opened
from admin.store.runs.definitions import Definitions
from admin.store.runs.runs import SqlRuns
from admin.store.tokens import SqlTokens
from admin.topics.groups import BrokerGroups
from admin.topics.topics import BrokerTopics
from admin.wakeup.local import LocalWakeup
from admin.wakeup.shared import SharedWakeup
from broker.client.endpoint import checked
from broker.client.operating.broker import BrokerClient
from broker.client.operating.dead_letters import DeadLetterClient
from broker.client.operating.groups import GroupClient
from broker.client.operating.looking import LookClient
from broker.client.operating.topics import TopicClient
from protos.errors import BadConfiguration, DirectoryInUse, DirectoryUnusable, ShardcastError
from protos.executor.v1.link_pb2_grpc import add_LinkServiceServicer_to_server
from protos.http import HttpServer, listen
from protos.server import Listening, Service, serve

log = structlog.get_logger(__name__)

FROZEN_PART = 0.4
"""Of a lease: executors whose beats wait for what a frozen admin has locked are heard before their leases lapse."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Admin:
    """A House: listening, its loops not yet running."""

    endpoints: Mapping[str, str]
    _loops: tuple[Loop, ...]
    _http: HttpServer
    _http_socket: socket
    _grpc: Listening
    _sessions: Sessions
    _wakeup: LocalWakeup | SharedWakeup

    async def ready(self) -> None:
        """At once: it listens since it was built."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            ringing = group.create_task(self._wakeup.run(), name="wakeup")
            for loop in self._loops:
                group.create_task(loop.run(), name=loop.name)
            await self._http.serve([self._http_socket])
            for loop in self._loops:
                loop.stop()
            await self._grpc.say_not_serving()
            self._sessions.end()
            ringing.cancel()

    def clock_was_set(self, by: timedelta) -> None:
        """To be called in the same step of the loop that sets the clock which `build` was given, forward by so much.

        What is due is served now; whoever is alive stays so, and no lease lapses by it. Attempts whose timeout is over
        by the new time are taken away.
        """
        self._sessions.shift(by)
        for loop in self._loops:
            loop.clock_was_set()

    def stop(self) -> None:
        self._http.stop()


@asynccontextmanager
async def build(settings: AdminSettings, clock: Clock = utc_now) -> AsyncIterator[Admin]:
    """Raises BadConfiguration, DirectoryUnusable, DirectoryInUse, DatabaseInUse, AddressInUse, StoreUnavailable."""
    async with AsyncExitStack() as stack:
        _lock(settings.data, stack)
        database = await _opened(settings, clock, stack)
        wakeup, sessions = _wakeup(settings), Sessions()
        stores = Stores.over(database)
        fleet = SharedFleet(sessions)
        desks = await _desks(settings, stack)
        buffer = LogBuffer(stores.logs, wakeup, clock, settings.logs.caps)
        stack.push_async_callback(buffer.close)
        operations = _operations(stores, fleet, sessions, wakeup, clock, desks=desks, lease=settings.lease)
        if await operations.access.begin(lambda made: _keep_tokens(settings.data, made)):
            log.info("first tokens made", action="tokens_made", directory=str(settings.data))
        http_socket = stack.enter_context(listen(settings.host, settings.http_port))
        attempts = Attempts(stores.runs, wakeup, settings.lease)
        link = LinkService(sessions, attempts, buffer, wakeup, clock, lease=settings.lease)
        grpc = await stack.enter_async_context(_serve_grpc(settings, operations, link))
        yield Admin(
            endpoints={
                "http": f"http://{settings.host}:{http_socket.getsockname()[1]}",
                "grpc": f"{settings.host}:{grpc.port}",
            },
            _loops=(
                *_loops(settings, stores, operations, sessions, fleet, wakeup=wakeup, clock=clock),
                LogWriter(buffer, wakeup, clock),
                Pruner(_retentions(settings, stores), wakeup, clock),
            ),
            _http=HttpServer(rest_app(operations), settings.drain_seconds),
            _http_socket=http_socket,
            _grpc=grpc,
            _sessions=sessions,
            _wakeup=wakeup,
        )


async def _opened(settings: AdminSettings, clock: Clock, stack: AsyncExitStack) -> Database:
    """In a thread, as migrations take a while."""
    opening = opened(settings.url, clock, is_embedded=settings.is_embedded, frozen=settings.lease * FROZEN_PART)
    database = await asyncio.to_thread(opening.__enter__)
    stack.push(opening.__exit__)
    return database


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept in the database."""

    jobs: SqlJobs
    runs: SqlRuns
    tokens: SqlTokens
    fleet: SqlFleet
    logs: SqlRunLogs

    @classmethod
    def over(cls, database: Database) -> "Stores":
        definitions = Definitions()
        return cls(
            jobs=SqlJobs(database, definitions),
            runs=SqlRuns(database, definitions, time.monotonic),
            tokens=SqlTokens(database, time.monotonic),
            fleet=SqlFleet(database),
            logs=SqlRunLogs(database),
        )


def _loops(
    settings: AdminSettings,
    stores: Stores,
    operations: Operations,
    sessions: Sessions,
    fleet: SharedFleet,
    *,
    wakeup: Wakeup,
    clock: Clock,
) -> tuple[Loop, ...]:
    runs, lease = stores.runs, settings.lease
    handover = Handover(runs, sessions, sessions, wakeup, clock, lease=lease)
    registrar = Registrar(AdminId(_new_id()), stores.fleet, fleet, wakeup, clock, lease=lease)
    shares = is_shared(settings.url)
    loops: list[Loop] = [
        Planner(runs, operations.fleet, handover, wakeup, clock, new_run_id=_new_run_id),
        Starter(runs, operations.runs.replace, wakeup, clock),
        Dispatcher(runs, handover, wakeup, clock),
        Reaper(runs, sessions, wakeup, clock, lease=lease, is_alone=registrar.is_alone if shares else _always),
    ]
    return (*loops, registrar) if shares else tuple(loops)


async def _always() -> bool:
    """An admin that has its database to itself is alone."""
    return True


async def _desks(settings: AdminSettings, stack: AsyncExitStack) -> tuple[TopicDesk, GroupDesk]:
    """What is asked of the broker; it is dialled when the first question comes, and may be away. Raises
    BadConfiguration.
    """
    try:
        endpoint, token = checked(settings.broker), settings.broker_token
    except ShardcastError as error:
        raise BadConfiguration(faults=f"broker: {error}") from error
    broker = await stack.enter_async_context(BrokerClient(endpoint, token=token))
    topics = await stack.enter_async_context(TopicClient(endpoint, token=token))
    looks = await stack.enter_async_context(LookClient(endpoint, token=token))
    groups = await stack.enter_async_context(GroupClient(endpoint, token=token))
    dead_letters = await stack.enter_async_context(DeadLetterClient(endpoint, token=token))
    return TopicDesk(BrokerTopics(broker, topics, looks)), GroupDesk(BrokerGroups(groups, dead_letters))


def _operations(
    stores: Stores,
    linked: SharedFleet,
    sessions: Sessions,
    wakeup: Wakeup,
    clock: Clock,
    *,
    desks: tuple[TopicDesk, GroupDesk],
    lease: timedelta,
) -> Operations:
    fleet = Fleet(linked, clock, lease)
    topics, groups = desks
    return Operations(
        jobs=Jobs(stores.jobs, stores.runs, fleet, wakeup, clock, _new_run_id),
        runs=Runs(stores.runs, fleet, sessions, wakeup, clock, _new_run_id),
        logs=Logs(stores.logs, stores.runs, wakeup),
        fleet=fleet,
        access=Access(stores.tokens, clock, _new_id, _new_secret),
        topics=topics,
        groups=groups,
    )


def _retentions(settings: AdminSettings, stores: Stores) -> Sequence[Prunable]:
    return (
        LogRetention(stores.logs, settings.logs.keep, settings.logs.max_bytes),
        RunRetention(stores.runs, stores.logs, settings.history.keep, settings.history.max_runs),
    )


def _serve_grpc(
    settings: AdminSettings, operations: Operations, link: LinkService
) -> AbstractAsyncContextManager[Listening]:
    services = [
        *admin_services(operations.jobs, operations.runs, operations.logs),
        Service("shardcast.executor.v1.LinkService", add_LinkServiceServicer_to_server, link),
    ]
    return serve(
        settings.host,
        settings.grpc_port,
        services,
        authorize=authorize_with(operations.access),
        grace_seconds=settings.drain_seconds,
    )


def _wakeup(settings: AdminSettings) -> LocalWakeup | SharedWakeup:
    """Over Redis where one is named, else over the database if it can; what is not used is not imported."""
    namespace = settings.wakeup.namespace
    if settings.wakeup.redis_url:
        from admin.wakeup.redis import RedisWakeup

        return RedisWakeup(settings.wakeup.redis_url, namespace)
    if settings.url.startswith("postgresql"):
        from admin.wakeup.postgresql import PostgresWakeup

        return PostgresWakeup(settings.url, namespace)
    return LocalWakeup()


def _lock(data: Path, stack: AsyncExitStack) -> None:
    lock = FileLock(data / "lock", timeout=0)
    try:
        data.mkdir(parents=True, exist_ok=True)
        stack.enter_context(lock)
    except Timeout as error:
        raise DirectoryInUse(path=data) from error
    except OSError as error:
        raise DirectoryUnusable(path=data, reason=error.strerror or str(error)) from error


def _keep_tokens(data: Path, made: Mapping[str, str]) -> None:
    """Each alone in a file that only its owner reads."""
    for name, secret in made.items():
        path = data / f"{name}.token"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _new_run_id() -> RunId:
    return RunId(_new_id())


def _new_secret() -> str:
    return f"sc_{secrets.token_urlsafe(32)}"
