"""Several admins on one database, and executors that may turn to any of them: real processes to kill, freeze, restart.

Each admin keeps its ports for good, as behind a name in a real installation.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from admin.store import schema
from shardcast.rest import RestClient
from tests.support.demo_process import wait_for

SOURCES = Path(__file__).parents[2]


@dataclass
class Process:
    """A daemon that a test kills, freezes and starts again; what it says goes to a file."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    popen: subprocess.Popen[bytes] | None = None
    is_frozen: bool = False

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        own = {name: value for name, value in os.environ.items() if not name.startswith("SHARDCAST_")}
        with (self.directory / "said.log").open("ab") as said:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                cwd=self.directory,
                env={**own, "PYTHONPATH": str(SOURCES), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    @property
    def is_running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.is_frozen = False
        if self.popen is not None:
            self.popen.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def ask_to_end(self) -> None:
        """By SIGTERM."""
        self._signal(signal.SIGTERM)

    def drain(self) -> None:
        """As SIGTERM does; returns once it has ended."""
        self.thaw()
        self.ask_to_end()
        if self.popen is not None:
            self.popen.wait(60)

    def wait(self, seconds: float = 60) -> int:
        """How it ended by itself."""
        assert self.popen is not None
        return self.popen.wait(seconds)

    def said(self) -> str:
        return (self.directory / "said.log").read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        if self.popen is not None and self.is_running:
            self.popen.send_signal(number)


@dataclass
class AdminProcess:
    """One admin, always on the same ports."""

    process: Process
    http: str
    grpc: str

    def is_ready(self) -> bool | None:
        """None for no, as `wait_for` likes it."""
        assert self.process.is_running, self.process.said()
        try:
            return httpx.get(f"{self.http}/readyz", timeout=2, trust_env=False).is_success or None
        except httpx.HTTPError:
            return None


@dataclass
class Installation:
    """The admins, their tokens, and the executors that were started."""

    directory: Path
    admins: Sequence[AdminProcess]
    admin_token: str = ""
    executor_token: str = ""
    executors: list[Process] = field(default_factory=list)

    @property
    def addresses(self) -> str:
        """For SHARDCAST_ADMIN."""
        return ",".join(admin.grpc for admin in self.admins)

    def api(self, index: int = 0) -> RestClient:
        return RestClient(self.admins[index].http, self.admin_token)

    def wait_until_ready(self) -> None:
        for admin in self.admins:
            wait_for(f"the admin at {admin.http}", admin.is_ready)

    def start_executor(self, app: str, source: str, **environment: str) -> Process:
        """One that runs MODULE:APP out of this source."""
        directory = self.directory / f"executor-{len(self.executors)}"
        directory.mkdir()
        (directory / f"{app.partition(':')[0]}.py").write_text(source)
        told = {
            "SHARDCAST_ADMIN": self.addresses,
            "SHARDCAST_TOKEN": self.executor_token,
            "SHARDCAST_NAME": directory.name,
            "SHARDCAST_DATA": str(directory / "data"),
        }
        process = Process(["executor", app], {**told, **environment}, directory)
        process.start()
        self.executors.append(process)
        return process

    def everybody(self) -> Iterator[Process]:
        yield from self.executors
        yield from (admin.process for admin in self.admins)


@contextmanager
def running_admins(directory: Path, url: str, count: int, **environment: str) -> Iterator[Installation]:
    """So many admins on one database, which is brought up to date first; all are ready."""
    schema.upgrade(url)
    admins = [new_admin(directory / f"admin-{number}", url, environment) for number in range(count)]
    installation = Installation(directory, admins)
    with ExitStack() as stack:
        stack.callback(lambda: [process.kill() for process in installation.everybody()])
        for number, admin in enumerate(admins):
            admin.process.start()
            if number == 0:  # it makes the tokens
                wait_for("the first admin", admin.is_ready)
        installation.wait_until_ready()
        installation.admin_token, installation.executor_token = (
            next(directory.glob(f"admin-*/data/{name}.token")).read_text() for name in ("admin", "executor")
        )
        yield installation


def new_admin(directory: Path, url: str, environment: Mapping[str, str]) -> AdminProcess:
    """Not started yet."""
    http, grpc = _free_port(), _free_port()
    command = ["admin", "--data", str(directory / "data"), "--http-port", str(http), "--grpc-port", str(grpc)]
    process = Process(command, {"SHARDCAST_DATABASE__URL": url, **environment}, directory)
    return AdminProcess(process, f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
