"""Daemons on the command line, and what is said when one dies again and again."""

import signal
from pathlib import Path

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
