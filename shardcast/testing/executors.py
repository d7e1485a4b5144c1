"""Executors that a test server runs: in the test's process, or as processes that can be killed for real."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from executor.app import Executor
from executor.daemon import build
from executor.settings import ExecutorSettings
from protos.daemon import STOP_WITH_STDIN
from protos.errors import ShardcastError
from shardcast.embedded import ended, until_ready
from shardcast.testing.proxy import Proxy

DRAIN_SECONDS = 2.0
STOP_SECONDS = 15.0
END_SECONDS = 1.0  # for what it said last; what it started may hold on to its output


class ExecutorRefused(ShardcastError):
    """The executor process {name} did not start: {reason}"""

    code = "executor_refused"


@dataclass(frozen=True, slots=True)
class Place:
    """What an executor needs to know: addresses, the token, and a directory of its own."""

    admin: str
    broker: str
    token: str
    data: Path


class Links:
    """The way of one executor to admin and broker: through proxies, so that it can be disturbed."""

    def __init__(self, place: Place) -> None:
        self.admin = Proxy(place.admin)
        self.broker = Proxy(place.broker)
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        for proxy in (self.admin, self.broker):
            await self._stack.enter_async_context(proxy)

    async def close(self) -> None:
        await self._stack.aclose()


class LocalExecutor:
    """An app that runs in the test's process. Belongs to the server's loop, but for `name`."""

    def __init__(self, app: Executor, name: str, place: Place, slots: int) -> None:
        self.name = name
        self.links = Links(place)
        self._app = app
        self._place = place
        self._slots = slots
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Returns once the admin has let it in. Raises what refuses it."""
        await self.links.open()
        settings = ExecutorSettings.model_construct(  # whatever the environment says
            admin=self.links.admin.endpoint,
            broker=self.links.broker.endpoint,
            token=self._place.token,
            data=self._place.data,
            slots=self._slots,
            name=self.name,
            drain_seconds=DRAIN_SECONDS,
            release_seconds=0.0,
        )
        try:
            self._daemon = await self._stack.enter_async_context(build(settings, self._app))
            self._serving = asyncio.create_task(self._daemon.run())
            await until_ready(self._daemon, self._serving)
        except BaseException:
            await self._close()
            raise

    async def stop(self) -> None:
        """Drains it."""
        self._daemon.stop()
        try:
            await ended(self._serving)
        finally:
            await self._close()

    async def kill(self) -> None:
        """Nothing of it gets out any more. Coroutines are cancelled; a thread runs on until it needs the link."""
        for proxy in (self.links.admin, self.links.broker):
            proxy.cut()
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        try:
            await self._stack.aclose()
        finally:
            await self.links.close()


class ChildExecutor:
    """MODULE:APP in a process of its own. Belongs to the server's loop, but for `name` and `process`."""

    def __init__(self, target: str, name: str, place: Place, slots: int, environment: Mapping[str, str]) -> None:
        self.name = name
        self.links = Links(place)
        self._target = target
        self._place = place
        self._slots = slots
        self._environment = environment
        self._said = threading.Event()
        self._is_ready = False

    async def start(self) -> None:
        """Returns once the admin has let it in. Raises ExecutorRefused with the last lines that it said."""
        await self.links.open()
        self._place.data.mkdir(parents=True, exist_ok=True)
        log = self._place.data / f"{self.name}.log"
        self.process = await asyncio.to_thread(self._spawn)
        self._listener = threading.Thread(target=self._listen, args=(log,), daemon=True)
        self._listener.start()
        await asyncio.to_thread(self._said.wait)
        if not self._is_ready:
            await self.kill()
            raise ExecutorRefused(name=self.name, reason="\n".join(log.read_text().splitlines()[-20:]))

    async def stop(self) -> None:
        """Drains it."""
        self.process.terminate()
        await self._wait()

    async def kill(self) -> None:
        """As SIGKILL does."""
        self.process.kill()
        await self._wait()

    async def _wait(self) -> None:
        try:
            await asyncio.to_thread(self.process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await asyncio.to_thread(self._listener.join, END_SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.links.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        """It finds what the test finds, and ends with the test."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **self._environment,
            "SHARDCAST_ADMIN": self.links.admin.endpoint,
            "SHARDCAST_BROKER": self.links.broker.endpoint,
            "SHARDCAST_TOKEN": self._place.token,
            "SHARDCAST_DATA": str(self._place.data),
            "SHARDCAST_NAME": self.name,
            "SHARDCAST_SLOTS": str(self._slots),
            "SHARDCAST_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "SHARDCAST_RELEASE_SECONDS": "0",
            STOP_WITH_STDIN: "1",
        }
        command = [sys.executable, "-m", "shardcast", "executor", self._target]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)

    def _listen(self, log: Path) -> None:
        """Until it ends; whether it got ready is known once `_said` is set."""
        assert self.process.stdout is not None
        with log.open("wb", buffering=0) as file, self.process.stdout as said:
            for line in said:
                file.write(line)
                if line.startswith(b'{"ready"'):
                    self._is_ready = True
                    self._said.set()
        self._said.set()
