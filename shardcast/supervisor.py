"""Daemons as child processes: started, watched, started again with backoff, stopped in order."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from protos.errors import ShardcastError, Status

QUICK_SECONDS = 3.0  # a daemon that lives shorter died quickly; being killed now and then is no crash loop
MAX_QUICK_DEATHS = 5
STOP_SECONDS = 8.0  # then what still runs is killed
MAX_LINE_BYTES = 1 << 16
USAGE_EXITS = (66, 73, 77, 78)  # what a daemon's start can fail with for good: it is not started again


class DaemonGaveUp(ShardcastError):
    """The {name} daemon ended with exit code {exit_code} again and again: {reason}"""

    code = "daemon_gave_up"
    status = Status.UNAVAILABLE


class DaemonRefused(ShardcastError):
    """The {name} daemon does not start: {reason}"""

    code = "daemon_refused"
    status = Status.FAILED_PRECONDITION


@dataclass(frozen=True, slots=True)
class Command:
    """How a daemon is started. `arguments` gets the endpoints of its first start, so that a free port once found is
    asked for again."""

    name: str
    kind: str  # admin, broker, executor, consumer, api
    arguments: Callable[[Mapping[str, str]], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


class _Child(asyncio.SubprocessProtocol):
    """A process that runs; `exited` with its code although what it started may hold on to its output."""

    transport: asyncio.SubprocessTransport

    def __init__(self, read: Callable[[bytes], None]) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._read = read
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, line = (self._line + data).split(b"\n")
        for each in lines:
            self._read(each)
        self._line = line[:MAX_LINE_BYTES]  # a longer one is not ours

    def process_exited(self) -> None:
        self.exited.set_result(cast(int, self.transport.get_returncode()))


class Daemon:
    """One supervised child. `endpoints` is what its ready line said."""

    def __init__(self, command: Command, logs: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.command = command
        self.endpoints: Mapping[str, str] = {}
        self.pid: int | None = None
        self.ready = asyncio.Event()
        self._log = logs / f"{command.name}.log"
        self._clock = clock
        self._child: _Child | None = None
        self._stopping = asyncio.Event()
        self._is_killed = False

    async def watch(self) -> None:
        """Keeps it running until `stop`. Raises DaemonGaveUp or DaemonRefused."""
        quick_deaths = 0
        while not self._stopping.is_set():
            began = self._clock()
            exit_code = await self._live_once()
            if self._stopping.is_set():
                return
            if exit_code in USAGE_EXITS and not self.ready.is_set():
                raise DaemonRefused(name=self.command.name, reason=self._last_words(), exit_code=exit_code)
            is_quick = self._clock() - began < QUICK_SECONDS and not self._is_killed
            quick_deaths = quick_deaths + 1 if is_quick else 0
            if quick_deaths >= MAX_QUICK_DEATHS:
                raise DaemonGaveUp(name=self.command.name, exit_code=exit_code, reason=self._cause(exit_code))
            await asyncio.sleep(0.1 * 2**quick_deaths if quick_deaths else 0)

    async def stop(self) -> None:
        """Asks it to drain and waits; kills what does not end in time."""
        self._stopping.set()
        if self._child is None or self._child.exited.done():
            return
        with suppress(ProcessLookupError):
            self._child.transport.send_signal(signal.SIGTERM)
            self._child.transport.send_signal(signal.SIGCONT)  # one that is stopped would not hear
        await asyncio.wait((self._child.exited,), timeout=STOP_SECONDS)
        self.kill()

    def kill(self) -> bool:
        """SIGKILL; whether it was alive. Such a death is no sign of a crash loop."""
        if self._child is None or self._child.exited.done():
            return False
        self._is_killed = True
        with suppress(ProcessLookupError):
            self._child.transport.kill()
        return True

    async def _live_once(self) -> int:
        self._is_killed = False
        with self._log.open("ab") as log:
            _, self._child = await asyncio.get_running_loop().subprocess_exec(
                partial(_Child, self._read),
                sys.executable,
                "-m",
                *self.command.arguments(self.endpoints),
                stdin=asyncio.subprocess.PIPE,  # its end tells the daemon that the parent is gone
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.command.environment, "SHARDCAST_STOP_WITH_STDIN": "1"},
                start_new_session=True,  # the terminal's Ctrl-C is for the parent, which stops them in order
            )
        self.pid = self._child.transport.get_pid()
        if self._stopping.is_set():  # since it was begun
            self.kill()
        exit_code = await asyncio.shield(self._child.exited)
        self._child.transport.close()
        return exit_code

    def _read(self, line: bytes) -> None:
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and "ready" in said:
                self.endpoints = {key: value for key, value in said.items() if key != "ready"}
                self.ready.set()

    def _cause(self, exit_code: int) -> str:
        return f"{signal.Signals(-exit_code).name} killed it" if exit_code < 0 else self._last_words()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        plain = [line for line in lines if line and not line.startswith("{")]
        return (plain or lines or ["it said nothing"])[-1]
