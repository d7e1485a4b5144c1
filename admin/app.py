"""Builds the admin: the one file that names every concrete class."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket

import uuid_utils
from filelock import FileLock, Timeout

from admin.api.rest.app import Operations, rest_app
from admin.api.rpc.services import admin_services, authorize_with
from admin.dispatch.grpc_session import Sessions
from admin.dispatch.link import LinkService
from admin.domain.errors import SchemaOutdated
from admin.domain.names import RunId
from admin.operations.access import Access
from admin.operations.attempts import Attempts
from admin.operations.fleet import Fleet
from admin.operations.groups import GroupDesk
from admin.operations.jobs import Jobs
from admin.operations.log_buffer import LogBuffer
from admin.operations.logs import LogRetention, Logs
from admin.operations.runs import Runs
from admin.operations.topics import TopicDesk
from admin.ports import Clock
from admin.scheduler.dispatcher import Dispatcher
from admin.scheduler.log_writer import LogWriter
from admin.scheduler.loop import Loop
from admin.scheduler.planner import Planner
from admin.scheduler.pruner import Pruner
from admin.scheduler.reaper import Reaper
from admin.settings import AdminSettings
from admin.store import schema
from admin.store.database import Database
from admin.store.jobs import SqlJobs
from admin.store.logs import SqlRunLogs
from admin.store.runs import SqlRuns
from admin.store.tokens import SqlTokens
from admin.topics.groups import BrokerGroups
from admin.topics.topics import BrokerTopics
from admin.wakeup.local import LocalWakeup
from broker.client.endpoint import checked
from broker.client.operating.broker import BrokerClient
from broker.client.operating.dead_letters import DeadLetterClient
from broker.client.operating.groups import GroupClient
from broker.client.operating.looking import LookClient
from broker.client.operating.topics import TopicClient
from protos.errors import BadConfiguration, DirectoryInUse, DirectoryUnusable
from protos.executor.v1.link_pb2_grpc import add_LinkServiceServicer_to_server
from protos.http import HttpServer, listen
from protos.server import Listening, Service, serve


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

    async def ready(self) -> None:
        """At once: it listens since it was built."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for loop in self._loops:
                group.create_task(loop.run(), name=loop.name)
            await self._http.serve([self._http_socket])
            for loop in self._loops:
                loop.stop()
            await self._grpc.say_not_serving()
            self._sessions.end()

    def stop(self) -> None:
        self._http.stop()


@asynccontextmanager
async def build(settings: AdminSettings, clock: Clock = utc_now) -> AsyncIterator[Admin]:
    """Raises BadConfiguration, DirectoryUnusable, DirectoryInUse, AddressInUse, StoreUnavailable."""
    async with AsyncExitStack() as stack:
        _lock(settings.data, stack)
        await asyncio.to_thread(_migrate, settings)
        database = Database(settings.url)
        stack.callback(database.close)
        wakeup, sessions, runs = LocalWakeup(), Sessions(), SqlRuns(database)
        desks = await _desks(settings, stack)
        run_logs = SqlRunLogs(database)
        buffer = LogBuffer(run_logs, wakeup, clock, settings.logs.caps)
        stack.push_async_callback(buffer.close)
        logs = Logs(run_logs, runs, wakeup)
        operations = _operations(database, runs, sessions, wakeup, clock, logs=logs, desks=desks, lease=settings.lease)
        await operations.access.begin(lambda made: _keep_tokens(settings.data, made))
        http_socket = stack.enter_context(listen(settings.host, settings.http_port))
        attempts = Attempts(runs, wakeup, clock, settings.lease)
        link = LinkService(sessions, attempts, buffer, wakeup, clock, lease=settings.lease)
        grpc = await stack.enter_async_context(_serve_grpc(settings, operations, link))
        yield Admin(
            endpoints={
                "http": f"http://{settings.host}:{http_socket.getsockname()[1]}",
                "grpc": f"{settings.host}:{grpc.port}",
            },
            _loops=(
                Planner(runs, operations.fleet, wakeup, clock, _new_run_id),
                Dispatcher(runs, sessions, sessions, wakeup, clock, lease=settings.lease),
                Reaper(runs, sessions, wakeup, clock, settings.lease),
                LogWriter(buffer, wakeup, clock),
                Pruner([_log_retention(run_logs, settings)], wakeup, clock),
            ),
            _http=HttpServer(rest_app(operations), settings.drain_seconds),
            _http_socket=http_socket,
            _grpc=grpc,
            _sessions=sessions,
        )


async def _desks(settings: AdminSettings, stack: AsyncExitStack) -> tuple[TopicDesk, GroupDesk]:
    """What is asked of the broker; it is dialled when the first question comes, and may be away."""
    endpoint, token = checked(settings.broker), settings.broker_token
    broker = await stack.enter_async_context(BrokerClient(endpoint, token=token))
    topics = await stack.enter_async_context(TopicClient(endpoint, token=token))
    looks = await stack.enter_async_context(LookClient(endpoint, token=token))
    groups = await stack.enter_async_context(GroupClient(endpoint, token=token))
    dead_letters = await stack.enter_async_context(DeadLetterClient(endpoint, token=token))
    return TopicDesk(BrokerTopics(broker, topics, looks)), GroupDesk(BrokerGroups(groups, dead_letters))


def _operations(
    database: Database,
    runs: SqlRuns,
    sessions: Sessions,
    wakeup: LocalWakeup,
    clock: Clock,
    *,
    logs: Logs,
    desks: tuple[TopicDesk, GroupDesk],
    lease: timedelta,
) -> Operations:
    fleet = Fleet(sessions, clock, lease)
    topics, groups = desks
    return Operations(
        jobs=Jobs(SqlJobs(database), runs, fleet, wakeup, clock, _new_run_id),
        runs=Runs(runs, fleet, sessions, wakeup, clock, _new_run_id),
        logs=logs,
        fleet=fleet,
        access=Access(SqlTokens(database), clock, _new_id, _new_secret),
        topics=topics,
        groups=groups,
    )


def _log_retention(run_logs: SqlRunLogs, settings: AdminSettings) -> LogRetention:
    return LogRetention(run_logs, settings.logs.keep, settings.logs.max_bytes)


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


def _lock(data: Path, stack: AsyncExitStack) -> None:
    lock = FileLock(data / "lock", timeout=0)
    try:
        data.mkdir(parents=True, exist_ok=True)
        stack.enter_context(lock)
    except Timeout as error:
        raise DirectoryInUse(path=data) from error
    except OSError as error:
        raise DirectoryUnusable(path=data, reason=error.strerror or str(error)) from error


def _migrate(settings: AdminSettings) -> None:
    """The embedded database is brought up to date; any other is the operator's, and only checked."""
    if not settings.url.startswith("sqlite"):
        raise BadConfiguration(faults="database.url: only SQLite is supported by this version")
    try:
        if settings.is_embedded:
            schema.upgrade(settings.url)
        schema.check(settings.url)
    except SchemaOutdated as error:
        raise BadConfiguration(faults=f"database.url: {error}") from error


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
