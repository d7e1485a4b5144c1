"""The handler `shell`: one program of an allow-list, whose lines are the run's log; offered where there is such a list.

The program is the head of a group of processes, under a small supervisor that ends all of the group once the program
has ended, and where the attempt is to stop or the executor is gone: both close its standard input.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from executor.errors import Fail, ProgramFailed
from executor.registry import Registry, describe
from executor.running.context import AsyncContext, Logger
from executor.running.process.spawn import Spawned

NAME = "shell"
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL; an attempt that was told to stop is left after 10
END_SECONDS = 1.0  # for the supervisor to end, and for what was said last to be read
MAX_LINE_BYTES = 16 << 10  # what is longer goes into several
MAX_KEPT_CHARACTERS = 4_096

SUPERVISOR = """
import os, signal, subprocess, sys, threading, time
try:
    program = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, process_group=0)
except OSError as error:
    print(error, flush=True)
    os._exit(126)
def kill(number):
    try:
        os.killpg(program.pid, number)
    except ProcessLookupError:
        pass
def watch():
    os.read(0, 1)
    kill(signal.SIGTERM)
    time.sleep(float(sys.argv[1]))
    kill(signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
kill(signal.SIGKILL)
code = program.wait()
os._exit(code if code >= 0 else 128 - code)
"""


class ShellCall(BaseModel):
    """What is run: a program with its arguments, or a line for `sh`, which is to be allowed then.

    `params` are for the program, as JSON in SHARDCAST_PARAMS. With an exit code of `give_up_on` there is no retry.
    """

    model_config = ConfigDict(extra="forbid")

    command: list[str] | str = Field(min_length=1)
    params: JsonValue = None
    give_up_on: list[int] = [126, 127]

    @property
    def arguments(self) -> list[str]:
        return ["sh", "-c", self.command] if isinstance(self.command, str) else self.command


class ShellAnswer(BaseModel):
    """`output` is its end."""

    exit_code: int
    output: str


def with_shell(registry: Registry, allowed: Sequence[str]) -> Registry:
    """What an app offers, and `shell` where programs are allowed; one of the app's own of that name stays."""
    if not allowed or NAME in registry.handlers:
        return registry
    more = Registry()
    more.listeners, more.middleware = registry.listeners, registry.middleware
    more.handlers = {**registry.handlers, NAME: describe(NAME, shell(allowed), (AsyncContext,))}
    return more


def shell(allowed: Sequence[str]) -> Callable[[AsyncContext, ShellCall], Awaitable[ShellAnswer | Fail]]:
    """The handler, for these programs: names to be found by the executor's PATH, or paths."""

    async def run(context: AsyncContext, params: ShellCall) -> ShellAnswer | Fail:
        """An exit code other than 0 is a failure, which may be retried but for those of `give_up_on`."""
        program, *arguments = params.arguments
        if program not in allowed:
            return Fail(f"the program {program} is none of those that SHARDCAST_SHELL_ALLOW names")
        found = shutil.which(program)  # of the executor, as are paths from here
        if found is None:
            return Fail(f"the program {program} is not there, or cannot be run")
        output = Output(context.log)
        code = await _run([found, *arguments], _environment(context, params.params), output)
        if code == 0:
            return ShellAnswer(exit_code=0, output=output.end)
        failure = ProgramFailed(program=program, exit_code=code, output=output.last_line or "it said nothing")
        if code in params.give_up_on:
            return Fail(str(failure))
        raise failure

    return run


def _environment(context: AsyncContext, params: JsonValue) -> dict[str, str]:
    """The executor's own, without its settings: tokens are among them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SHARDCAST_")}
    return {
        **own,
        "SHARDCAST_RUN_ID": context.run_id,
        "SHARDCAST_JOB": context.job,
        "SHARDCAST_ATTEMPT": str(context.attempt),
        "SHARDCAST_SHARD_INDEX": str(context.shard.index),
        "SHARDCAST_SHARD_TOTAL": str(context.shard.total),
        "SHARDCAST_PARAMS": json.dumps(params),
    }


async def _run(command: Sequence[str], environment: dict[str, str], output: "Output") -> int:
    """The exit code. When it returns, or is cancelled, nothing of the program's group is left."""
    supervisor = (sys.executable, "-I", "-S", "-c", SUPERVISOR, str(GRACE_SECONDS))
    spawned = Spawned((*supervisor, *command), has_pipes=True, environment=environment)
    assert spawned.process.stdin is not None
    try:
        reading = asyncio.create_task(output.read(spawned))
        try:
            await spawned.wait()
        except asyncio.CancelledError:
            spawned.process.stdin.close()
            await spawned.wait(GRACE_SECONDS + END_SECONDS)
            raise
        finally:
            await asyncio.wait((reading,), timeout=END_SECONDS)  # a daemon that left the group may hold on to it
            reading.cancel()
    finally:
        spawned.process.stdin.close()
    return await spawned.exited


class Output:
    """Lines of a program on their way to the run's log, which has its caps; the end is kept for the result."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._kept = ""

    @property
    def end(self) -> str:
        return self._kept[-MAX_KEPT_CHARACTERS:]

    @property
    def last_line(self) -> str:
        return self._kept.strip().rpartition("\n")[2][:200]

    async def read(self, spawned: Spawned) -> None:
        stream, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(stream)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, spawned.process.stdout)
        try:
            await self._take_all(stream)
        finally:
            transport.close()

    async def _take_all(self, stream: asyncio.StreamReader) -> None:
        waiting = b""
        while data := await stream.read(MAX_LINE_BYTES):
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                self._take(line)
            if len(waiting) >= MAX_LINE_BYTES:
                self._take(waiting)
                waiting = b""
        if waiting:
            self._take(waiting)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._log.info("%s", text)
        self._kept = f"{self._kept[-MAX_KEPT_CHARACTERS:]}{text}\n"
