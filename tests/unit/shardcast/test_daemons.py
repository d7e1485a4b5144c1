"""Daemons on the command line, and what is said when one dies again and again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shardcast import supervisor
from shardcast.cli import app


@pytest.mark.parametrize(("flags", "exit_code"), [([], 78), (["--insecure"], 73)])
def test_a_broker_beyond_loopback_without_keys_goes_on_only_when_insecure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], exit_code: int
) -> None:
    monkeypatch.setenv("SHARDCAST_HOST", "0.0.0.0")
    monkeypatch.setattr("protos.daemon.configure_logs", lambda: None)  # for this whole process, other tests included
    (tmp_path / "file").touch()  # no directory: what comes next fails
    ended = CliRunner().invoke(app, ["broker", "--data", str(tmp_path / "file"), "--port", "0", *flags])
    assert ended.exit_code == exit_code


@pytest.mark.anyio
async def test_giving_up_a_killed_daemon_names_the_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_QUICK_DEATHS", 1)
    (tmp_path / "dying.py").write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    command = supervisor.Command("broker", "broker", lambda _: ["dying"], {"PYTHONPATH": str(tmp_path)})
    with pytest.raises(supervisor.DaemonGaveUp, match="SIGKILL killed it"):
        await supervisor.Daemon(command, tmp_path).watch()


def a_daemon(directory: Path, program: str) -> supervisor.Daemon:
    (directory / "program.py").write_text(program)
    command = supervisor.Command("executor", "executor", lambda _: ["program"], {"PYTHONPATH": str(directory)})
    return supervisor.Daemon(command, directory)


LONG_LINE = "import sys; print('x' * 1_000_000); print('{\"ready\": \"it\"}', flush=True); sys.stdin.read()"


@pytest.mark.anyio
async def test_a_long_line_of_a_daemon_ends_nobody_who_watches(tmp_path: Path) -> None:
    daemon = a_daemon(tmp_path, LONG_LINE)
    watching = asyncio.create_task(daemon.watch())
    async with asyncio.timeout(20):
        await asyncio.wait((watching, ready := asyncio.create_task(daemon.ready.wait())), return_when="FIRST_COMPLETED")
        assert ready.done()
        await daemon.stop()
        await watching


FAILING = """
import structlog
from protos.daemon import configure_logs

def push(users, password):
    raise RuntimeError("no such user")

configure_logs()
try:
    push(["ann"] * 1_000, "s3cret")
except RuntimeError as error:
    structlog.get_logger("x").error("handler failed", exc_info=error)
"""


def test_a_line_about_an_error_holds_no_value_of_a_variable() -> None:
    said = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, check=True, text=True).stderr
    (error,) = json.loads(said)["exception"]
    assert (error["exc_type"], error["exc_value"]) == ("RuntimeError", "no such user")
    assert [frame["name"] for frame in error["frames"]] == ["<module>", "push"]
    assert ("s3cret" in said, "ann" in said) == (False, False)


LEFT_BEHIND = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, file=open('pid', 'w'), flush=True)"


@pytest.mark.anyio
async def test_a_death_is_noticed_although_a_child_of_the_daemon_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_QUICK_DEATHS", 1)
    monkeypatch.chdir(tmp_path)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(supervisor.DaemonGaveUp):
                await a_daemon(tmp_path, LEFT_BEHIND).watch()
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.anyio
async def test_a_daemon_that_is_stopped_while_it_is_started_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, is_starting, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    start = loop.subprocess_exec

    async def slowly(*command: Any, **how: Any) -> Any:
        is_starting.set()
        await go_on.wait()
        return await start(*command, **how)

    monkeypatch.setattr(loop, "subprocess_exec", slowly)
    daemon = a_daemon(tmp_path, "import sys; sys.stdin.read()")
    watching = asyncio.create_task(daemon.watch())
    async with asyncio.timeout(20):
        await is_starting.wait()
        await daemon.stop()
        go_on.set()
        await watching
