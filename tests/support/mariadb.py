"""A MariaDB server of a test's own, where the machine has one installed."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.demo_process import wait_for

HASTY = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--sync-frm=0")


@dataclass
class MariadbServer:
    """One that a test kills and starts again, always on the same port."""

    url: str
    _command: Sequence[str]
    _port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("MariaDB", lambda: _answers(self._port))

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()


@contextmanager
def running_mariadb(directory: Path, *, is_durable: bool = True) -> Iterator[str]:
    """Yields the SQLAlchemy URL of an empty database `shop`; skips the test where mariadbd is missing.

    One that is not durable is quick, and outlives what befalls everybody but the machine.
    """
    with mariadb_server(directory, is_durable=is_durable) as server:
        yield server.url


@contextmanager
def mariadb_server(directory: Path, *, is_durable: bool = True) -> Iterator[MariadbServer]:
    """As `running_mariadb`; it runs."""
    pytest.importorskip("pymysql", reason="needs the package pymysql")
    installer, program = shutil.which("mariadb-install-db"), shutil.which("mariadbd") or shutil.which("mysqld")
    if installer is None or program is None:
        pytest.skip("needs mariadb-server")
    data = ["--no-defaults", f"--datadir={directory}"]
    subprocess.run([installer, *data, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    port = _free_port()
    listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={directory}/s", "--user=root"]
    url = f"mysql+pymysql://root@127.0.0.1:{port}/shop?charset=utf8mb4"
    server = MariadbServer(url, [program, *data, *listening, *(() if is_durable else HASTY)], port)
    server.start()
    try:
        command = ["-h127.0.0.1", f"-P{port}", "-uroot", "-eCREATE DATABASE shop CHARACTER SET utf8mb4"]
        subprocess.run(["mariadb", "--no-defaults", *command], check=True)
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _answers(port: int) -> bool | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return bool(connection.recv(1)) or None
    except OSError:
        return None
