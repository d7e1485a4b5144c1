"""The built-in handler `shell`: what it may run, what becomes of the program, and that nothing of it stays behind."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from executor.app import Executor
from executor.handlers import shell as room
from executor.handlers.shell import with_shell
from executor.model import Assignment, AttemptKey, Outcome, OutcomeState, RunId, Term
from executor.running.attempt import Attempt
from executor.running.cancellation import Why
from executor.settings import ExecutorSettings
from tests.support.attempts import world_of
from tests.support.processes import is_gone, until

pytestmark = pytest.mark.anyio

STUBBORN = """
trap '' TERM
(trap '' TERM; sleep 600) & echo $! >> {pids}
echo $$ >> {pids}
echo started
while true; do sleep 1; done
"""


def attempt_of(command: object, *allowed: str, **params: object) -> Attempt:
    app = Executor("group")
    app.registry = with_shell(app.registry, allowed or ("sh", "python3"))
    key = AttemptKey(RunId("run"), 2, Term(1))
    told = json.dumps({"command": command, **params})
    return Attempt(world_of(app), Assignment(key, "nightly", "shell", 8, told), lease_until=10.0)


async def outcome_of(command: object, *allowed: str, **params: object) -> Outcome:
    outcome = await attempt_of(command, *allowed, **params).run()
    assert outcome is not None
    return outcome


def lines_of(attempt: Attempt) -> list[str]:
    batch = attempt.log.take()
    return [line.text for line in batch.lines] if batch is not None else []


def test_it_is_offered_only_where_programs_are_allowed_and_an_app_has_none_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Executor("group")
    assert with_shell(app.registry, ExecutorSettings.from_env().allowed_programs).handlers == {}
    monkeypatch.setenv("SHARDCAST_SHELL_ALLOW", "rsync, /opt/backup.sh")
    allowed = ExecutorSettings.from_env().allowed_programs
    assert allowed == ("rsync", "/opt/backup.sh")
    offered = with_shell(app.registry, allowed)
    assert (list(offered.handlers), app.registry.handlers) == (["shell"], {})
    app.job("shell")(lambda: None)
    assert with_shell(app.registry, allowed) is app.registry


async def test_a_program_gets_its_arguments_as_they_are_and_its_lines_are_the_log() -> None:
    attempt = attempt_of(["sh", "-c", 'printf "%s\\n" "$@"; echo oops >&2', "x", "a b", "$(id)"])
    outcome = await attempt.run()
    assert outcome is not None
    assert json.loads(outcome.result) == {"exit_code": 0, "output": "a b\n$(id)\noops\n"}
    assert lines_of(attempt) == ["a b", "$(id)", "oops"]


async def test_a_program_is_told_its_shard_and_its_parameters_but_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCAST_TOKEN", "secret")
    outcome = await outcome_of("env | grep SHARDCAST_ | sort", params={"a": [1, None]})
    assert json.loads(outcome.result)["output"].splitlines() == [
        "SHARDCAST_ATTEMPT=1",
        "SHARDCAST_JOB=nightly",
        'SHARDCAST_PARAMS={"a": [1, null]}',
        "SHARDCAST_RUN_ID=run",
        "SHARDCAST_SHARD_INDEX=2",
        "SHARDCAST_SHARD_TOTAL=8",
    ]


@pytest.mark.parametrize("command", ["echo x", ["/bin/sh", "-c", "echo x"], ["python", "-c", ""]])
async def test_a_program_that_is_not_allowed_is_not_run(command: object) -> None:
    outcome = await outcome_of(command, "python3")
    assert (outcome.error_code, outcome.is_retryable) == ("fail", False)
    assert "SHARDCAST_SHELL_ALLOW" in outcome.error_message


@pytest.mark.parametrize(
    ("command", "code", "is_retryable", "told"),
    [
        ("echo broken; exit 3", "program_failed", True, "exit code 3: broken"),
        ("kill -9 $$", "program_failed", True, "exit code 137: it said nothing"),
        ("exit 5", "fail", False, "exit code 5"),
        (["no-such-program"], "fail", False, "is not there"),
        ([], "bad_params", False, "command"),
    ],
)
async def test_how_a_program_ends_decides_whether_it_is_tried_again(
    command: object, code: str, is_retryable: bool, told: str
) -> None:
    outcome = await outcome_of(command, "sh", "no-such-program", give_up_on=[5])
    assert (outcome.state, outcome.error_code, outcome.is_retryable) == (OutcomeState.FAILED, code, is_retryable)
    assert told in outcome.error_message


@pytest.mark.parametrize("content", ["#!/no-such-interpreter\n", "echo without an interpreter\n"])
async def test_a_program_that_the_system_cannot_start_is_said_so_in_a_line_and_not_tried_again(
    tmp_path: Path, content: str
) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(0o755)
    attempt = attempt_of([str(program)], str(program))
    outcome = await attempt.run()
    assert outcome is not None
    assert (outcome.error_code, outcome.is_retryable) == ("fail", False)
    assert "exit code 126" in outcome.error_message
    assert len(lines_of(attempt)) == 1


async def test_endless_lines_and_floods_are_cut_and_counted() -> None:
    attempt = attempt_of(["python3", "-c", "print('x' * 100_000); print('y\\n' * 5_000, end='')"])
    outcome = await attempt.run()
    assert outcome is not None
    assert outcome.state is OutcomeState.SUCCEEDED
    batch = attempt.log.take()
    assert batch is not None
    assert len(batch.lines) == 1_000
    assert batch.dropped >= 4_000
    assert max(len(line.text) for line in batch.lines) == 4_096
    assert len(json.loads(outcome.result)["output"]) == 4_096


@pytest.mark.parametrize("why", [Why.CANCELLED, Why.TIMED_OUT, Why.LOST])
async def test_a_tree_of_processes_that_ignores_sigterm_is_killed_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: Why
) -> None:
    monkeypatch.setattr(room, "GRACE_SECONDS", 0.2)
    told = tmp_path / "pids"
    attempt = attempt_of(STUBBORN.format(pids=told))
    running = asyncio.create_task(attempt.run())
    await until(lambda: attempt.log.has_news)
    pids = [int(line) for line in told.read_text().split()]
    assert len(pids) == 2
    assert not any(map(is_gone, pids))
    attempt.cancellation.request(why, "enough")
    outcome = await running
    assert (outcome is None) is (why is Why.LOST)
    await until(lambda: all(map(is_gone, pids)))


async def test_a_program_that_heeds_sigterm_has_time_to_tidy_up() -> None:
    attempt = attempt_of("trap 'echo tidy; exit 0' TERM; echo started; while true; do sleep 0.05; done")
    running = asyncio.create_task(attempt.run())
    await until(lambda: attempt.log.has_news)
    attempt.cancellation.request(Why.CANCELLED, "enough")
    outcome = await running
    assert outcome is not None
    assert outcome.state is OutcomeState.CANCELLED
    lines = lines_of(attempt)
    assert (lines[0], lines[-1]) == ("started", "tidy")


async def test_what_a_program_leaves_running_ends_with_it() -> None:
    outcome = await outcome_of("sleep 600 & echo $!")
    left = int(json.loads(outcome.result)["output"])
    assert left != os.getpid()
    await until(lambda: is_gone(left))
