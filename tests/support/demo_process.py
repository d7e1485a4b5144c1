"""A demo in real processes that a test can look at, kill and stop."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from protos.errors import ShardcastError
from shardcast.rest import RestClient

WAIT_SECONDS = 90.0
KINDS = {
    "admin": "shardcast admin",
    "broker": "shardcast broker",
    "executor": "shardcast executor",
    "consumer": "shardcast.demo.delivery",
}

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
    """What `look` finds, once it finds anything; fails the test when that takes too long."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Demo:
    """A demo that runs; `data` is its directory, `deliveries` gets every provider call."""

    process: subprocess.Popen[str]
    data: Path
    deliveries: Path

    def pids(self, kind: str) -> list[int]:
        """The living children of a kind, in the order of their start."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except FileNotFoundError:  # it has ended
            return []
        return sorted(int(pid) for pid in children if KINDS[kind] in _command_line(int(pid)))

    def kill(self, kind: str) -> None:
        os.kill(self.pids(kind)[0], signal.SIGKILL)

    def shards(self) -> list[dict[str, Any]]:
        """The shards of the one run, none while there is no run or nobody answers."""
        try:
            address = json.loads((self.data / "endpoints.json").read_text())["http"]
            with RestClient(address, (self.data / "admin" / "admin.token").read_text()) as api:
                runs = api.get("/runs")["runs"]
                return list(api.get(f"/runs/{runs[0]['id']}/shards")["shards"]) if runs else []
        except (OSError, ValueError, ShardcastError):
            return []

    def wait_until_published(self, count: int) -> None:
        """Until so many messages are acknowledged, and the run has not ended."""

        def look() -> bool | None:
            shards = self.shards()
            assert self.process.poll() is None, "the demo ended too soon"
            assert not shards or any(shard["state"] not in ("succeeded", "failed") for shard in shards), "too late"
            return True if sum(shard["published"] for shard in shards) >= count else None

        wait_for(f"{count} messages published", look)

    def wait_until_delivered(self, count: int) -> None:
        def look() -> bool | None:
            records = self.data.glob("deliveries-*.jsonl")
            return True if sum(record.read_bytes().count(b"\n") for record in records) >= count else None

        wait_for(f"{count} messages delivered", look)

    def report(self, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """The JSON report, when the demo has ended."""
        output, errors = self.process.communicate(timeout=seconds)
        assert output, f"no report, exit code {self.process.returncode}: {errors}"
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.deliveries.read_text().splitlines()]


@contextmanager
def running_demo(data: Path, *options: str) -> Iterator[Demo]:
    """`shardcast demo` with these options, killed at the end of the block if it still runs."""
    deliveries = data.with_suffix(".deliveries.jsonl")
    command = [
        sys.executable,
        "-m",
        "shardcast",
        "demo",
        "--json",
        "--data",
        str(data),
        "--deliveries",
        str(deliveries),
    ]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Demo(process, data, deliveries)
    finally:
        process.kill()
        process.communicate()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
