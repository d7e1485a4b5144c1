"""Two admins on one database: what is asked of one reaches executors that are linked to the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from admin.store import schema
from tests.support.admin_harness import JOB, RunningAdmin, connected, running_admin, until

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 30.0  # nothing here is to rest on one that lapses


@dataclass
class Pair:
    """Executors are linked to the near one, calls go to the far one."""

    near: RunningAdmin
    far: RunningAdmin
    client: httpx.AsyncClient  # of the far one

    async def fleet(self) -> list[str]:
        return [executor["id"] for executor in (await self.client.get("/fleet")).json()["executors"]]

    async def knows(self, *ids: str) -> None:
        """Until the far one does."""

        async def look() -> bool:
            return await self.fleet() == list(ids)

        await until(look)

    async def trigger(self, **job: object) -> str:
        assert (await self.client.post("/jobs", json={**JOB, **job})).status_code == 201
        return (await self.client.post(f"/jobs/{JOB['name']}/trigger", json={})).json()["id"]


@asynccontextmanager
async def pair(tmp_path: Path, url: str, *, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[Pair]:
    schema.upgrade(url)
    more = {"database": {"url": url}, "lease_seconds": lease_seconds}
    async with (
        running_admin(tmp_path / "near", **more) as near,
        running_admin(tmp_path / "far", first=near, **more) as far,
        far.client() as client,
    ):
        yield Pair(near, far, client)


async def test_the_fleet_is_the_same_wherever_it_is_asked_for(tmp_path: Path, shared_database_url: str) -> None:
    async with pair(tmp_path, shared_database_url) as admins, connected(admins.near) as executor:
        await executor.came("welcome")
        async with connected(admins.far, "two") as another:
            await another.came("welcome")
            await admins.knows("one", "two")
        await admins.knows("one")
    assert not list((tmp_path / "far").glob("*.token"))


async def test_shards_are_as_many_as_executors_wherever_these_are_linked(
    tmp_path: Path, shared_database_url: str
) -> None:
    async with (
        pair(tmp_path, shared_database_url) as admins,
        connected(admins.near) as one,
        connected(admins.near, "two") as two,
        connected(admins.far, "three") as three,
    ):
        for executor in (one, two, three):
            await executor.came("welcome")
        await admins.knows("one", "three", "two")
        run_id = await admins.trigger(shards="executors")
        assert (await admins.client.get(f"/runs/{run_id}")).json()["shards"] == 3


async def test_a_run_is_carried_out_by_an_executor_of_another_admin(tmp_path: Path, shared_database_url: str) -> None:
    async with pair(tmp_path, shared_database_url) as admins, connected(admins.near) as executor:
        await executor.came("welcome")
        run_id = await admins.trigger(shards=1)
        (assignment,) = await executor.assigned(1)
        assert assignment.attempt.run_id == run_id
        await executor.report(assignment.attempt)
        assert (await admins.client.get(f"/runs/{run_id}")).json()["state"] == "succeeded"


async def test_an_executor_of_another_admin_hears_of_a_cancel_with_its_next_beat(
    tmp_path: Path, shared_database_url: str
) -> None:
    async with pair(tmp_path, shared_database_url) as admins, connected(admins.near) as executor:
        await executor.came("welcome")
        run_id = await admins.trigger(shards=1)
        (assignment,) = await executor.assigned(1)
        await executor.say(accept={"attempts": [assignment.attempt]})
        await executor.beat(assignment.attempt)
        assert (await admins.client.post(f"/runs/{run_id}/cancel", json={})).is_success
        await executor.beat(assignment.attempt)
        assert (await executor.came("cancel")).cancel.attempt == assignment.attempt


async def test_an_executor_that_moves_on_keeps_what_it_holds(tmp_path: Path, shared_database_url: str) -> None:
    async with pair(tmp_path, shared_database_url) as admins:
        async with connected(admins.near) as executor:
            await executor.came("welcome")
            run_id = await admins.trigger(shards=1)
            (assignment,) = await executor.assigned(1)
        async with connected(admins.far, held=(assignment.attempt,)) as executor:
            await executor.came("welcome")
            assert not (await executor.beat(assignment.attempt)).lost
            await executor.report(assignment.attempt)
        assert (await admins.client.get(f"/runs/{run_id}")).json()["state"] == "succeeded"
        (shard,) = (await admins.client.get(f"/runs/{run_id}/shards")).json()["shards"]
        assert shard["term"] == 1
