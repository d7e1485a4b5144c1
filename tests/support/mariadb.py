"""A MariaDB server of a test's own, where the machine has one installed."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.demo_process import wait_for

HASTY = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--sync-frm=0")


@contextmanager
def running_mariadb(directory: Path, *, is_durable: bool = True) -> Iterator[str]:
    """Yields the SQLAlchemy URL of an empty database `shop`; skips the test where mariadbd is missing.

    One that is not durable is quick, and outlives what befalls everybody but the machine.
    """
    pytest.importorskip("pymysql", reason="needs the package pymysql")
    installer, server = shutil.which("mariadb-install-db"), shutil.which("mariadbd") or shutil.which("mysqld")
    if installer is None or server is None:
        pytest.skip("needs mariadb-server")
    data = ["--no-defaults", f"--datadir={directory}"]
    subprocess.run([installer, *data, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    port = _free_port()
    listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={directory}/s", "--user=root"]
    manner = () if is_durable else HASTY
    with subprocess.Popen([server, *data, *listening, *manner], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for("MariaDB", lambda: _answers(port))
            command = ["-h127.0.0.1", f"-P{port}", "-uroot", "-eCREATE DATABASE shop CHARACTER SET utf8mb4"]
            subprocess.run(["mariadb", "--no-defaults", *command], check=True)
            yield f"mysql+pymysql://root@127.0.0.1:{port}/shop?charset=utf8mb4"
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _answers(port: int) -> bool | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return bool(connection.recv(1)) or None
    except OSError:
        return None
