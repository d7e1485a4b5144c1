"""The daemons that are measured: one admin and null executors, each a child process that ends with this one."""

import asyncio
import json
import os
import sys
import time
from array import array
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scheduler.ledger import FIELDS
from benchmarks.scheduler.measure import Arrival
from benchmarks.servers import Skipped
from protos.daemon import STOP_WITH_STDIN

START_SECONDS = 60.0
STOP_SECONDS = 10.0  # then it is killed


class Overwhelmed(Skipped):
    """The admin does not take what an operator orders."""


class Admin:
    """One admin on its data directory; it keeps its ports when it is started again."""

    def __init__(self, data: Path, url: str) -> None:
        self.data = data
        self._environment = {"SHARDCAST_DATABASE__URL": url} if url else {}
        self._process: Process | None = None
        self.http = self.grpc = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def token(self, name: str) -> str:
        return (self.data / f"{name}.token").read_text()

    async def start(self) -> float:
        """The seconds until it said that it is ready. Raises Skipped, with its last word, when it ends instead."""
        began = time.perf_counter()
        log = self.data.with_suffix(".err")
        ports = [address.rpartition(":")[2] or "0" for address in (self.http, self.grpc)]
        with log.open("ab") as errors:
            command = (sys.executable, "-m", "admin", "--data", str(self.data))
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *("--http-port", ports[0], "--grpc-port", ports[1]),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env={**os.environ, **self._environment, STOP_WITH_STDIN: "1"},
            )
        assert self._process.stdout is not None
        ready = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        if not ready:
            raise Skipped(f"the admin did not start: {log.read_text().strip().splitlines()[-1:]}")
        said = json.loads(ready)
        self.http, self.grpc = said["http"], said["grpc"]
        return time.perf_counter() - began

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """As an operator stops it; one that is too busy to hear is killed."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            await self.kill()


@asynccontextmanager
async def running_admin(data: Path, url: str) -> AsyncIterator[Admin]:
    admin = Admin(data, url)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.stop()


@dataclass(frozen=True, slots=True)
class Samples:
    """What an executor saw, in order, and the ids of runs whose outcome the admin accepted."""

    arrivals: Sequence[Arrival]
    accepted: Sequence[str]


class Executor:
    """The other end of a null executor's standard input."""

    def __init__(self, process: Process, samples: Path) -> None:
        self._process = process
        self._samples = samples
        self.pid = process.pid

    async def count(self) -> dict[str, float]:
        """What it counts now: arrived, accepted, superseded, lost, waiting."""
        return await self._ask("count")

    async def accepted(self, count: int, seconds: float) -> dict[str, float]:
        """The same once so many outcomes are accepted, or the seconds are over."""
        return await self._ask(f"wait {count} {seconds}", seconds)

    async def arrived(self, count: int, seconds: float) -> dict[str, float]:
        return await self._ask(f"arrive {count} {seconds}", seconds)

    async def _ask(self, order: str, seconds: float = 0) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n".encode())
        line = await asyncio.wait_for(self._process.stdout.readline(), seconds + START_SECONDS)
        counts: dict[str, float] = json.loads(line)
        return counts

    async def samples(self) -> Samples:
        """All so far."""
        await self._ask("save")
        numbers = array("q", self._samples.read_bytes())
        accepted = self._samples.with_suffix(".accepted").read_text().split()
        fields = (numbers[field::FIELDS] for field in range(FIELDS))
        arrivals = [Arrival(number, fire, us / 1_000, bool(end)) for number, fire, us, end in zip(*fields, strict=True)]
        return Samples(arrivals, accepted)


@asynccontextmanager
async def running_executor(
    admin: Admin, samples: Path, group: str, *, is_hung: bool = False
) -> AsyncIterator[Executor]:
    """Linked soon after; its words on standard error are ours."""
    arguments = (admin.grpc, admin.token("executor"), group, str(samples), *(("--hung",) if is_hung else ()))
    command = (sys.executable, "-m", "benchmarks.scheduler.null_executor", *arguments)
    with samples.with_suffix(".err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=errors)
    try:
        yield Executor(process, samples)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
