"""The examples, as their READMEs say."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.demo_process import wait_for

ROOT = Path(__file__).parents[2]


@contextmanager
def started(log: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def address_of(log: Path) -> str | None:
    found = re.search(r"running on (http://[\d.:]+)", log.read_text())
    return found and found[1]


def test_the_fastapi_application_runs_beside_real_daemons(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "shop.log"
    ports = ["--http-port", "0", "--grpc-port", "0", "--broker-port", "0"]
    with started(tmp_path / "up.log", "shardcast", "up", "--executors", "0", "--data", str(data), *ports):
        file = data / "endpoints.json"
        wait_for("the daemons", lambda: file.exists() or None)
        endpoints = json.loads(file.read_text())
        environment = {
            "SHARDCAST_SERVER": endpoints["http"],
            "SHARDCAST_ADMIN": endpoints["grpc"],
            "SHARDCAST_BROKER": endpoints["broker"],
            "SHARDCAST_TOKEN_FILE": endpoints["token_file"],
            "SHARDCAST_DATA": str(tmp_path / "shop"),
        }
        with started(log, "uvicorn", "examples.fastapi_app.app:app", "--port", "0", **environment) as shop:
            address = wait_for("the shop", lambda: address_of(log))
            with httpx.Client(base_url=address, trust_env=False) as client:
                for number in range(3):
                    answer = client.post("/orders", json={"number": number, "item": "tea"})
                    assert answer.status_code == 202, log.read_text()
                run_id = client.post("/reports").json()["run_id"]

                def sold() -> dict[str, object] | None:
                    """Each report is of what was confirmed so far."""
                    nonlocal run_id
                    body = client.get(f"/reports/{run_id}").json()
                    if body["state"] == "succeeded" and body["sold"] != {"tea": 3}:
                        run_id = client.post("/reports").json()["run_id"]
                    return body if body["sold"] == {"tea": 3} else None

                wait_for("three confirmed orders", sold)
            shop.send_signal(signal.SIGTERM)
            assert shop.wait(timeout=20) in (0, -signal.SIGTERM)
            assert "Application shutdown complete" in log.read_text()


def test_the_fastapi_application_tests_itself() -> None:
    """With the plugin of this source, whichever is installed."""
    plugins = ["-p", "pytest_timeout", "-p", "shardcast.testing.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "examples/fastapi_app"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
