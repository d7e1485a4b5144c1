"""An executor that is killed or drained leaves no handler's process behind."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.client import Consumer
from broker.testing import running_broker
from executor.daemon import build
from executor.settings import ExecutorSettings
from protos.executor.v1 import link_pb2 as pb
from tests.support import process_app
from tests.support.fake_admin import FakeAdmin, serving
from tests.support.processes import is_gone, until
from tests.support.tables import table_of_users

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def executing(admin: FakeAdmin, data: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A daemon of its own, with the handlers of tests.support.process_app."""
    async with serving(admin) as server:
        where = {"SHARDCAST_ADMIN": f"127.0.0.1:{server.port}", "SHARDCAST_DATA": str(data / "executor")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "executor", "tests.support.process_app:app"),
            env={**os.environ, **where, "SHARDCAST_RELEASE_SECONDS": "0"},
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await admin.until(lambda: admin.beats, 60)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_an_executor_that_is_killed_leaves_no_process_behind_however_busy(tmp_path: Path) -> None:
    admin, told = FakeAdmin(lease_ms=30_000), tmp_path / "pids"
    async with executing(admin, tmp_path) as executor:
        admin.assign("run", "spin", params=json.dumps(str(told)))
        await admin.until(lambda: admin.lines, 60)
        pids = json.loads(told.read_text())
        assert not any(map(is_gone, pids))
        executor.kill()
        await until(lambda: all(map(is_gone, pids)))


async def test_the_processes_of_an_executor_that_is_frozen_end_with_their_leases(tmp_path: Path) -> None:
    admin, told = FakeAdmin(lease_ms=30_000), tmp_path / "pids"
    async with executing(admin, tmp_path) as executor:
        admin.lease_ms = 3_000
        admin.close()  # it registers again, and is told the shorter lease
        await admin.until(lambda: len(admin.registered) == 2)
        admin.assign("run", "spin", params=json.dumps(str(told)))
        await until(lambda: told.exists() and told.read_text().endswith("]"), 60)
        pids = json.loads(told.read_text())
        executor.send_signal(signal.SIGSTOP)
        assert not any(map(is_gone, pids))
        await until(lambda: all(map(is_gone, pids)))


async def test_a_process_that_is_killed_from_outside_is_a_failure_of_its_attempt_alone(tmp_path: Path) -> None:
    admin, told = FakeAdmin(lease_ms=30_000), tmp_path / "pids"
    async with executing(admin, tmp_path):
        key = admin.assign("run", "spin", params=json.dumps(str(told)))
        await admin.until(lambda: admin.lines, 60)
        handler, child = json.loads(told.read_text())
        os.kill(handler, signal.SIGKILL)
        outcome = await admin.outcome(key)
        assert (outcome.error_code, outcome.retryable) == ("handler_died", True)
        await until(lambda: is_gone(handler) and is_gone(child))
        after = await admin.outcome(admin.assign("run", "see", shard=1, params='{"a": 1}'))
        assert after.state == pb.OUTCOME_STATE_SUCCEEDED, after


async def test_a_drain_hands_back_what_runs_in_a_process(tmp_path: Path) -> None:
    admin = FakeAdmin(lease_ms=30_000)
    async with executing(admin, tmp_path) as executor:
        key = admin.assign("run", "watch")
        await admin.until(lambda: admin.lines, 60)
        executor.terminate()
        outcome = await admin.outcome(key)
        assert outcome.state == pb.OUTCOME_STATE_RELEASED
        assert await executor.wait() == 0
        assert admin.lines == ["watching", "told"]


async def test_a_second_signal_ends_an_executor_at_once_and_its_processes_with_it(tmp_path: Path) -> None:
    admin, told = FakeAdmin(lease_ms=30_000), tmp_path / "pids"
    async with executing(admin, tmp_path) as executor:
        admin.assign("run", "spin", params=json.dumps(str(told)))
        await admin.until(lambda: admin.lines, 60)
        pids = json.loads(told.read_text())
        executor.terminate()
        await admin.until(lambda: admin.beats[-1].draining)
        executor.terminate()
        async with asyncio.timeout(8):  # a drain would give it 10 s
            assert await executor.wait() == 0
        await until(lambda: all(map(is_gone, pids)))


async def test_programs_of_the_shell_handler_end_with_an_executor_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDCAST_SHELL_ALLOW", "sh")
    admin = FakeAdmin(lease_ms=30_000)
    async with executing(admin, tmp_path) as executor:
        line = "trap '' TERM; sleep 600 & echo $! $$; while true; do sleep 1; done"
        admin.assign("run", "shell", params=json.dumps({"command": line}))
        await admin.until(lambda: admin.lines, 60)
        pids = [int(pid) for pid in admin.lines[0].split()]
        assert not any(map(is_gone, pids))
        executor.kill()
        await until(lambda: all(map(is_gone, pids)))


ROWS = 2_000


async def gained_at(probe: str) -> float:
    """The messages that a monitor sees as published by this executor."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{probe}/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = families["shardcast_executor_published_messages"].samples
    return sample.value


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.proof)])
async def test_a_shard_whose_processes_die_again_and_again_is_in_the_topic_once(tmp_path: Path, seed: int) -> None:
    admin, lives = FakeAdmin(lease_ms=30_000), [random.Random(seed + n).randint(1, 40) for n in range(5)]
    params = json.dumps(json.dumps([table_of_users(tmp_path / "users.db", ROWS), lives]))
    async with running_broker(tmp_path / "broker") as broker, serving(admin) as server:
        settings = ExecutorSettings(admin=f"127.0.0.1:{server.port}", broker=broker, data=tmp_path, probe_port=0)
        async with build(settings, process_app.app) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            for term in range(1, len(lives) + 2):
                given = {"params": params, "term": term, "attempt_number": term}
                outcome = await admin.outcome(admin.assign("run", "perish", **given), 60)
                died = term <= len(lives)
                assert outcome.error_code == ("handler_died" if died else "")
            gained = await gained_at(daemon.endpoints["probe"])
            daemon.stop()
            await task
        assert outcome.counters.rows == outcome.counters.published == ROWS
        assert 0 < gained <= ROWS, "no attempt counts again what those before it had published"
        keys: Counter[str] = Counter()
        async with Consumer(broker, "check", ["push"]) as consumer:
            while keys.total() < ROWS:
                keys.update(message.key or "" for message in await anext(consumer))
        assert keys == Counter(str(n) for n in range(1, ROWS + 1))
