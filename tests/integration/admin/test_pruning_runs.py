"""The history is pruned in nobody's way."""

import asyncio
import threading
from pathlib import Path

import pytest

from admin.domain.run import OutcomeState, RunState
from admin.store.runs import history
from tests.support.admin_factories import NOW, order
from tests.support.admin_stores import LONG, sql_stores, utc_now

pytestmark = pytest.mark.anyio


async def test_what_is_to_be_forgotten_is_looked_for_beside_the_writer(tmp_path: Path):
    is_busy, go_on = threading.Event(), threading.Event()

    def work(_: object) -> None:
        is_busy.set()
        go_on.wait(10)

    with sql_stores(f"sqlite:///{tmp_path / 'admin.db'}") as stores:
        assert stores.database is not None
        writing = asyncio.ensure_future(stores.database.write(work))
        await asyncio.to_thread(is_busy.wait, 10)
        try:
            async with asyncio.timeout(30):
                assert list(await stores.runs.prune(LONG, 100, 9)) == []
        finally:
            go_on.set()
            await writing


async def test_a_run_that_is_tried_again_meanwhile_stays(tmp_path: Path):
    with sql_stores(f"sqlite:///{tmp_path / 'admin.db'}") as stores:
        assert stores.database is not None
        await stores.job()
        run = await stores.add(order())
        (assignment,) = await stores.assign()
        await stores.report(assignment.shard.current, OutcomeState.FAILED)
        old = await stores.database.read(lambda connection: history.find_old(connection, utc_now() + LONG, b"", 9))
        assert len(old.keys) == 1
        await stores.runs.add_attempts(run.id)
        assert await stores.database.write(lambda connection: history.prune(connection, old)) == []
        assert (await stores.runs.get(run.id)).state is RunState.RUNNING
        await stores.cancel(run)
        kept = await stores.database.read(lambda connection: history.find_old(connection, NOW, b"", 9))
        assert kept.keys == []
