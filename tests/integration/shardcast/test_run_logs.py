"""`shardcast run logs` against a real admin."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from protos.executor.v1 import link_pb2 as pb
from shardcast.cli import app
from shardcast.cli.logs import log_pages, log_text
from shardcast.rest import RestClient
from tests.support.admin_harness import JOB, FakeExecutor, RunningAdmin, connected, running_admin

pytestmark = pytest.mark.anyio

Cli = Callable[..., Awaitable[Result]]


@dataclass
class Here:
    cli: Cli
    admin: RunningAdmin


@asynccontextmanager
async def running_run(tmp_path: Path) -> AsyncIterator[tuple[Here, str, FakeExecutor, list[pb.Attempt]]]:
    """The command line and its admin; a run of two shards, and who holds them."""
    async with (
        running_admin(tmp_path, lease_seconds=10) as admin,
        admin.client() as client,
        connected(admin) as executor,
    ):
        environment = {"SHARDCAST_SERVER": admin.http, "SHARDCAST_TOKEN": admin.admin_token}

        async def cli(*arguments: str) -> Result:
            return await asyncio.to_thread(CliRunner(env=environment).invoke, app, ["run", "logs", *arguments])

        await client.post("/jobs", json=JOB)
        run_id = (await client.post("/jobs/promotion-push/trigger")).json()["id"]
        assignments = await executor.assigned(2)
        yield (
            Here(cli, admin),
            run_id,
            executor,
            sorted((each.attempt for each in assignments), key=lambda each: each.shard),
        )


async def say(executor: FakeExecutor, attempt: pb.Attempt, *texts: str, level: int = 20) -> None:
    lines = [pb.LogLine(at_ms=1_764_000_000_123, level=level, text=text) for text in texts]
    await executor.say(log_lines=pb.LogLines(attempt=attempt, lines=lines, attempt_number=1))


async def test_logs_are_lines_of_text_or_the_body_of_the_api(tmp_path: Path) -> None:
    async with running_run(tmp_path) as (here, run_id, executor, attempts):
        await say(executor, attempts[0], *(f"line {number}" for number in range(1_001)))
        await say(executor, attempts[1], "bad", level=40)
        for attempt in attempts:
            await executor.report(attempt)
        shown = (await here.cli(run_id)).stdout.splitlines()
        assert (len(shown), shown[0]) == (1_002, "2025-11-24T16:00:00.123Z INFO     0/1 line 0")
        assert (await here.cli(run_id, "--shard", "1")).stdout == "2025-11-24T16:00:00.123Z ERROR    1/1 bad\n"
        body = json.loads((await here.cli(run_id, "-o", "json")).stdout)
        assert (len(body["lines"]), body["more"], body["ended"]) == (1_002, False, True)
        followed = (await here.cli(run_id, "-f", "-o", "json")).stdout.splitlines()
        assert [len(json.loads(page)["lines"]) for page in followed] == [1_000, 2]
        unknown = await here.cli("none")
        assert (unknown.exit_code, unknown.stdout) == (1, "")


async def test_a_follower_waits_for_the_end_of_the_run(tmp_path: Path) -> None:
    async with running_run(tmp_path) as (here, run_id, executor, attempts):
        await say(executor, attempts[0], "first")
        await executor.report(attempts[0])
        loop, waits, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        came: list[str] = []

        def wait(_: float) -> None:
            loop.call_soon_threadsafe(waits.set)
            go_on.wait(10)

        def follow() -> None:
            with RestClient(here.admin.http, here.admin.admin_token) as api:
                for page in log_pages(api, run_id, shard=None, follow=True, sleep=wait):
                    came.extend(line["text"] for line in page["lines"])

        following = asyncio.create_task(asyncio.to_thread(follow))
        async with asyncio.timeout(30):
            await waits.wait()
            assert came == ["first"]
            await say(executor, attempts[1], "last")
            await executor.report(attempts[1])
            go_on.set()
            await following
        assert came == ["first", "last"]


def test_a_handler_gives_no_orders_to_a_terminal() -> None:
    line = {"at": "now", "level": 25, "shard": 1, "attempt": 2, "text": "\x1b[2J推广\ttab\nnext\x07"}
    assert log_text(line) == "now Level 25 1/2 \\x1b[2J推广\ttab\nnext\\x07"
