"""Admins that reach for the same runs at the same moment."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select

from admin.domain.run import on_lapse
from admin.domain.shard import ShardState
from admin.store.tables import runs
from tests.support.admin_factories import order
from tests.support.admin_stores import Stores, sql_stores

pytestmark = pytest.mark.anyio


@pytest.fixture
def stores(shared_database_url: str) -> Iterator[Stores]:
    with sql_stores(shared_database_url) as found:
        yield found


async def test_a_lapsed_shard_that_somebody_has_in_hand_is_left_to_them(stores: Stores) -> None:
    await stores.job()
    run = await stores.add(order())
    await stores.assign(lease=timedelta())
    holds, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(select(runs.c.id).with_for_update()).all()
        holds.set()
        go_on.wait(30)

    holding = asyncio.ensure_future(stores.database.write(hold))
    await asyncio.to_thread(holds.wait)
    async with asyncio.timeout(30):
        assert (await stores.runs.claim_lapsed(9, on_lapse)).runs == []
    go_on.set()
    await holding
    (shard,) = await stores.runs.list_shards(run.id)
    assert shard.state is ShardState.ASSIGNED
    await stores.runs.claim_lapsed(9, on_lapse)
    (shard,) = await stores.runs.list_shards(run.id)
    assert (shard.state, shard.losses) == (ShardState.WAITING, 1)


async def test_shards_that_lapsed_are_lost_once_whoever_looks(stores: Stores) -> None:
    await stores.job(shards=50)
    run = await stores.add(order())
    await stores.assign(lease=timedelta())
    await asyncio.gather(*(stores.runs.claim_lapsed(1000, on_lapse) for _ in range(6)))
    await stores.runs.claim_lapsed(1000, on_lapse)
    assert {shard.losses for shard in await stores.runs.list_shards(run.id)} == {1}
