"""All daemons on one machine, on embedded defaults: a broker, an admin, some executors."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock, Timeout

from protos.errors import DirectoryInUse, DirectoryUnusable, ShardcastError, TimedOut
from protos.exits import first_of
from shardcast.supervisor import Command, Daemon

BUILT_IN_APP = "executor.handlers:app"
READY_SECONDS = 60.0
DIALLED = ("admin", "broker")
ANY_HTTP_PORT, ANY_GRPC_PORT, ANY_BROKER_PORT = 8080, 8082, 8081


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall run. Ports of 0 are any free ones; `environment` is for the executors."""

    data: Path
    executors: int = 2
    app: str = BUILT_IN_APP
    http_port: int = ANY_HTTP_PORT
    grpc_port: int = ANY_GRPC_PORT
    broker_port: int = ANY_BROKER_PORT
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where things are, as written to endpoints.json; the token file holds the admin token alone."""

    http: str
    grpc: str
    broker: str
    token_file: Path
    executor_token_file: Path

    def as_json(self) -> str:
        return json.dumps(
            {"http": self.http, "grpc": self.grpc, "broker": self.broker, "token_file": str(self.token_file)}
        )


class Fleet:
    """The daemons of one machine while they run."""

    def __init__(self, endpoints: Endpoints, daemons: list[Daemon], group: asyncio.TaskGroup, data: Path) -> None:
        self.endpoints = endpoints
        self.daemons = daemons
        self._group = group
        self._data = data

    async def start_executors(
        self,
        app: str,
        count: int,
        *,
        kind: str = "executor",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Starts executors of an app, named by their kind, and waits until they are ready."""
        ours = {
            "SHARDCAST_ADMIN": self.endpoints.grpc,
            "SHARDCAST_BROKER": self.endpoints.broker,
            "SHARDCAST_TOKEN_FILE": str(self.endpoints.executor_token_file),
            "SHARDCAST_DATA": str(self._data / f"{kind}s"),
        }
        await self.start(_executors(kind, app, count, {**environment, **ours}))

    async def start(self, commands: Sequence[Command]) -> None:
        """Starts more daemons beside those that run, and waits until they are ready."""
        await _start(commands, self.daemons, self._group, self._data / "logs")


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Fleet]:
    """Runs the daemons of the plan until the block ends, then stops executors first, admin and broker last.

    Raises DirectoryInUse, DirectoryUnusable, and, out of the block, DaemonGaveUp or DaemonRefused.
    """
    data = plan.data.absolute()
    logs = data / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = FileLock(data / "up.lock", timeout=0).acquire()
    except Timeout as error:
        raise DirectoryInUse(path=data) from error
    except OSError as error:
        raise DirectoryUnusable(path=data, reason=error.strerror) from error
    daemons: list[Daemon] = []
    with lock:
        try:
            async with _one_error(), asyncio.TaskGroup() as group:
                try:
                    await _start([_broker(plan, data)], daemons, group, logs)
                    await _start([_admin(plan, daemons[0].endpoints["grpc"], data)], daemons, group, logs)
                    endpoints = _endpoints(daemons, data)
                    fleet = Fleet(endpoints, daemons, group, data)
                    await fleet.start_executors(plan.app, plan.executors, environment=plan.environment)
                    _write(data / "endpoints.json", endpoints.as_json())
                    yield fleet
                finally:
                    await _stop(daemons)
        finally:
            (data / "endpoints.json").unlink(missing_ok=True)


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """The first of our errors in place of the task group's bundle."""
    try:
        yield
    except BaseExceptionGroup as bundle:
        ours, others = bundle.split(ShardcastError)
        if others is not None or ours is None:
            raise
        raise first_of(ours) from None


async def _start(commands: Sequence[Command], daemons: list[Daemon], group: asyncio.TaskGroup, logs: Path) -> None:
    started = [Daemon(command, logs) for command in commands]
    daemons += started
    for daemon in started:
        group.create_task(daemon.watch())
    try:
        async with asyncio.timeout(READY_SECONDS):
            for daemon in started:
                await daemon.ready.wait()
    except TimeoutError as error:
        late = ", ".join(daemon.command.name for daemon in started if not daemon.ready.is_set())
        raise TimedOut(f"{late} did not get ready within {READY_SECONDS:.0f} s; see {logs}") from error


async def _stop(daemons: Sequence[Daemon]) -> None:
    """Those that dial first, so that they can still report; then those that they dial."""
    try:
        for is_dialled in (False, True):
            chosen = (each for each in daemons if (each.command.kind in DIALLED) == is_dialled)
            await asyncio.gather(*(daemon.stop() for daemon in chosen))
    finally:
        for daemon in daemons:
            daemon.kill()


def _broker(plan: Plan, data: Path) -> Command:
    def arguments(endpoints: Mapping[str, str]) -> list[str]:
        port = _port(endpoints.get("grpc"), plan.broker_port)
        return ["shardcast", "broker", "--data", str(data / "broker"), "--port", port]

    return Command("broker", "broker", arguments)


def _admin(plan: Plan, broker: str, data: Path) -> Command:
    def arguments(endpoints: Mapping[str, str]) -> list[str]:
        http, grpc = _port(endpoints.get("http"), plan.http_port), _port(endpoints.get("grpc"), plan.grpc_port)
        return ["shardcast", "admin", "--data", str(data / "admin"), "--http-port", http, "--grpc-port", grpc]

    return Command("admin", "admin", arguments, {"SHARDCAST_BROKER": broker})


def _executors(kind: str, app: str, count: int, environment: Mapping[str, str]) -> list[Command]:
    def arguments(_: Mapping[str, str]) -> list[str]:
        return ["shardcast", "executor", app]

    return [
        Command(name, kind, arguments, {**environment, "SHARDCAST_NAME": name})
        for name in (f"{kind}-{number}" for number in range(1, count + 1))
    ]


def _endpoints(daemons: Sequence[Daemon], data: Path) -> Endpoints:
    broker, admin = (next(each for each in daemons if each.command.kind == kind) for kind in ("broker", "admin"))
    return Endpoints(
        http=admin.endpoints["http"],
        grpc=admin.endpoints["grpc"],
        broker=broker.endpoints["grpc"],
        token_file=data / "admin" / "admin.token",
        executor_token_file=data / "admin" / "executor.token",
    )


def _port(endpoint: str | None, wanted: int) -> str:
    return endpoint.rpartition(":")[2] if endpoint else str(wanted)


def _write(path: Path, text: str) -> None:
    """Whole or not at all: whoever waits for the file never reads half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)
