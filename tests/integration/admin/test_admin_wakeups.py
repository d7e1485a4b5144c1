"""An admin that is told of a Redis rings there, and ends although Redis has gone."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.admin_harness import JOB, PATIENCE, running_admin
from tests.support.redis_server import running_redis

pytestmark = pytest.mark.anyio


async def test_what_happens_in_one_admin_wakes_others(tmp_path: Path) -> None:
    redis = pytest.importorskip("admin.wakeup.redis", reason="needs the package redis", exc_type=ImportError)
    with running_redis(tmp_path) as server:
        other = redis.RedisWakeup(server.url, "mine")
        with other.listen("dispatcher") as bell:
            task = asyncio.create_task(other.run())
            assert await bell.wait(PATIENCE)
            wakeup = {"redis_url": server.url, "namespace": "mine"}
            async with running_admin(tmp_path / "admin", wakeup=wakeup) as admin, admin.client() as client:
                await client.post("/jobs", json=JOB)
                await client.post(f"/jobs/{JOB['name']}/trigger", json={})
                assert await bell.wait(PATIENCE)
                server.kill()
                assert (await client.post(f"/jobs/{JOB['name']}/trigger", json={})).status_code == 201
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


CANCELLED_WHILE_IT_SENDS = """
import asyncio, sys
import uvloop
from admin.wakeup.postgresql import PostgresWakeup

async def send(url, steps):
    wakeup = PostgresWakeup(url, "any")
    async with wakeup._carrier.connect() as connection:
        sending = asyncio.create_task(connection.send("a message"))
        for _ in range(steps):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
    for steps in range(12):
        runner.run(send(sys.argv[1], steps))
"""


async def test_an_admin_may_drain_while_it_sends(postgresql_url: str) -> None:
    """In a process of its own: libuv would end it without a word."""
    pytest.importorskip("uvloop", reason="needs the package uvloop")
    sender = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CANCELLED_WHILE_IT_SENDS, postgresql_url, cwd=Path(__file__).parents[3]
    )
    async with asyncio.timeout(PATIENCE * 3):
        assert await sender.wait() == 0
