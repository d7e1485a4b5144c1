"""An admin that is told of a Redis rings there, and ends although Redis has gone."""

import asyncio
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
