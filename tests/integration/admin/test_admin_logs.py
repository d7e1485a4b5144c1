"""What handlers log, from executors through the admin's database to readers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio
import pytest

from admin.domain.logs import LINE_COST, LogChunk, LogLine, Position
from admin.domain.names import Attempt, RunId
from admin.operations.logs.reading import LogRetention
from admin.scheduler.pruner import Pruner
from admin.store.databases.sqlite import SqliteDatabase
from admin.store.logs import SqlRunLogs
from admin.wakeup.local import LocalWakeup
from executor.app import Executor
from executor.daemon import build
from executor.running.context import AsyncContext, Context
from executor.settings import ExecutorSettings
from protos.admin.v1 import run_pb2, run_pb2_grpc
from protos.channel import bearer, dial
from protos.executor.v1 import link_pb2 as pb
from tests.support.admin_harness import JOB, PATIENCE, RunningAdmin, connected, running_admin, until

pytestmark = pytest.mark.anyio

TRIGGER = "/jobs/promotion-push/trigger"
AT_MS = 1_764_000_000_000


def lines(attempt: pb.Attempt, *texts: str, dropped: int = 0, number: int = 1) -> pb.LogLines:
    said = [pb.LogLine(at_ms=AT_MS, level=20, text=text) for text in texts]
    return pb.LogLines(attempt=attempt, lines=said, dropped=dropped, attempt_number=number)


async def log_of(client, run_id: str, **query: object) -> dict:
    answer = await client.get(f"/runs/{run_id}/logs", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def texts_of(client, run_id: str, **query: object) -> list[str]:
    return [line["text"] for line in (await log_of(client, run_id, **query))["lines"]]


async def begun(client, **job: object) -> str:
    await client.post("/jobs", json={**JOB, "shards": 1, **job})
    return (await client.post(TRIGGER)).json()["id"]


class App(Executor):
    """Handlers that log, and one that goes on when the test says."""

    def __init__(self) -> None:
        super().__init__("promotion")
        self.go_on = asyncio.Event()
        self.job("push")(self.push)
        self.job("long")(self.long)

    def push(self, context: Context) -> None:
        context.log.info("shard %d begins", context.shard.index)
        context.log.debug("too fine for the admin")
        context.log.error("the last word of %d", context.shard.index)

    async def long(self, context: AsyncContext) -> None:
        context.log.info("before")
        await self.go_on.wait()
        context.log.warning("after")


@asynccontextmanager
async def executing(admin: RunningAdmin, app: Executor, data: Path) -> AsyncIterator[None]:
    settings = ExecutorSettings(
        admin=admin.grpc, token=admin.executor_token, data=data, drain_seconds=5, release_seconds=0
    )
    async with build(settings, app) as daemon:
        task = asyncio.create_task(daemon.run())
        try:
            yield
        finally:
            daemon.stop()
            async with asyncio.timeout(15):
                await task


async def test_what_a_real_executor_logged_is_there_when_its_run_has_ended(tmp_path):
    async with (
        running_admin(tmp_path / "admin", lease_seconds=10) as admin,
        admin.client() as client,
        executing(admin, App(), tmp_path / "executor"),
    ):
        run_id = await begun(client, shards=3)

        async def has_ended() -> bool:
            return (await client.get(f"/runs/{run_id}")).json()["ended_at"] is not None

        await until(has_ended)
        log = await log_of(client, run_id)
        assert (log["more"], log["ended"]) == (False, True)
        by_shard = {
            shard: [(line["level"], line["text"]) for line in log["lines"] if line["shard"] == shard]
            for shard in range(3)
        }
        assert by_shard == {
            shard: [(20, f"shard {shard} begins"), (40, f"the last word of {shard}")] for shard in range(3)
        }
        assert {(line["attempt"], line["term"], line["dropped"]) for line in log["lines"]} == {(1, 1, 0)}
        assert await texts_of(client, run_id, shard=2) == ["shard 2 begins", "the last word of 2"]
        first = await log_of(client, run_id, limit=4)
        rest = await log_of(client, run_id, after=first["position"])
        assert (first["more"], [*first["lines"], *rest["lines"]]) == (True, log["lines"])


async def test_a_follower_sees_lines_while_the_run_goes_on_until_it_has_ended(tmp_path):
    app = App()
    async with (
        running_admin(tmp_path / "admin", lease_seconds=10) as admin,
        admin.client() as client,
        executing(admin, app, tmp_path / "executor"),
        dial(admin.grpc) as channel,
        asyncio.timeout(PATIENCE),
    ):
        run_id = await begun(client, handler="long")
        runs, token = run_pb2_grpc.RunServiceStub(channel), bearer(admin.admin_token)
        tail = runs.TailLogs(run_pb2.RunServiceTailLogsRequest(id=run_id, follow=True), metadata=token)
        before = await tail.read()
        assert (before.text, before.level, before.shard, before.attempt, before.term) == ("before", 20, 0, 1, 1)
        assert abs(before.at_ms / 1000 - datetime.now(UTC).timestamp()) < PATIENCE
        app.go_on.set()
        after = await tail.read()
        assert (after.text, after.level) == ("after", 30)
        assert await tail.read() is grpc.aio.EOF
        assert (await client.get(f"/runs/{run_id}")).json()["state"] == "succeeded"
        again = run_pb2.RunServiceTailLogsRequest(id=run_id, after=before.position, shard=0)
        assert [line.text async for line in runs.TailLogs(again, metadata=token)] == ["after"]
        other = run_pb2.RunServiceTailLogsRequest(id=run_id, shard=1)
        assert [line.text async for line in runs.TailLogs(other, metadata=token)] == []


async def test_only_what_an_executor_holds_is_kept_of_what_it_says(tmp_path):
    async with (
        running_admin(tmp_path, lease_seconds=10) as admin,
        admin.client() as client,
        connected(admin, "one") as holder,
        connected(admin, "two", group="other") as stranger,
        connected(admin, "three") as neighbour,
    ):
        run_id = await begun(client)

        def assigned() -> list[pb.Assignment]:
            return [*holder.assignments(), *neighbour.assignments()]

        async def is_assigned() -> bool:
            return bool(assigned())

        await until(is_assigned)
        mine, other = (holder, neighbour) if list(holder.assignments()) else (neighbour, holder)
        attempt = assigned()[0].attempt
        for liar in (stranger, other):
            await liar.say(log_lines=lines(attempt, "not mine"))
            await liar.beat()
        await mine.say(log_lines=lines(pb.Attempt(run_id=run_id, shard=0, term=9), "another term"))
        await mine.say(log_lines=lines(attempt, "mine"))
        assert await mine.report(attempt) == pb.VERDICT_ACCEPTED
        await mine.say(log_lines=lines(attempt, "too late"))
        await mine.beat()
        assert await texts_of(client, run_id) == ["mine"]


async def test_whatever_an_executor_says_is_cut_to_what_can_be_kept(tmp_path):
    async with (
        running_admin(tmp_path, lease_seconds=10) as admin,
        admin.client() as client,
        connected(admin) as executor,
    ):
        run_id = await begun(client)
        (assignment,) = await executor.assigned(1)
        wild = pb.LogLines(
            attempt=assignment.attempt,
            attempt_number=2**32 - 1,
            dropped=2**64 - 1,
            lines=[
                pb.LogLine(at_ms=2**63 - 1, level=2**32 - 1, text="x" * 9_999),
                pb.LogLine(at_ms=-(2**63), text="\x00"),
            ],
        )
        await executor.say(log_lines=wild)
        assert await executor.report(assignment.attempt) == pb.VERDICT_ACCEPTED
        first, second, last = (await log_of(client, run_id))["lines"]
        assert (first["at"], first["level"], len(first["text"])) == ("9999-12-31T23:59:59.999Z", 50, 4096)
        assert (second["at"], second["level"], second["text"]) == ("1970-01-01T00:00:00.000Z", 0, "\x00")
        assert (last["dropped"], last["attempt"]) == (1_000_000_000, 1_000_000_000)


async def test_lines_beyond_the_caps_are_dropped_and_counted(tmp_path):
    text = "x" * (1_000 - LINE_COST)
    caps = {"attempt_bytes": 4_500, "run_bytes": 5_000}
    async with (
        running_admin(tmp_path, lease_seconds=10, logs=caps) as admin,
        admin.client() as client,
        connected(admin) as executor,
    ):
        run_id = await begun(client, shards=2)
        one, two = (assignment.attempt for assignment in await executor.assigned(2))
        for attempt in (one, two):
            for _ in range(3):
                await executor.say(log_lines=lines(attempt, *[text] * 2))
            await executor.report(attempt)
        for attempt in (one, two):
            log = (await log_of(client, run_id, shard=attempt.shard))["lines"]
            kept = sum(line["text"] == text for line in log)
            assert kept + sum(line["dropped"] for line in log) == 6
            assert kept == (4 if attempt is one else 0), "all that the run has room for, chunk by chunk"


async def test_the_log_of_a_run_is_asked_for_as_other_things_are(tmp_path):
    async with running_admin(tmp_path, lease_seconds=10) as admin, admin.client() as client:
        unknown = await client.get("/runs/none/logs")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_run")
        run_id = await begun(client)
        assert await log_of(client, run_id) == {"lines": [], "position": "0.0", "more": False, "ended": False}
        for query in ({"after": "x"}, {"shard": -1}, {"limit": 0}, {"limit": 1_001}):
            assert (await client.get(f"/runs/{run_id}/logs", params=query)).status_code in (400, 422)


async def test_lines_that_wait_are_written_when_the_admin_stops(tmp_path):
    async with (
        running_admin(tmp_path, lease_seconds=10) as admin,
        admin.client() as client,
        connected(admin) as executor,
    ):
        run_id = await begun(client)
        (assignment,) = await executor.assigned(1)
        await executor.say(log_lines=lines(assignment.attempt, "unreported"))
        await executor.beat(assignment.attempt)
    async with running_admin(tmp_path, lease_seconds=10) as admin, admin.client() as client:
        assert await texts_of(client, run_id) == ["unreported"]


@dataclass
class Room:
    """Another thing that grows."""

    left: int
    name: str = "others"

    async def prune(self, now: datetime, limit: int) -> int:
        gone = min(self.left, limit)
        self.left -= gone
        return gone


async def test_the_pruner_forgets_old_logs_in_small_steps_and_then_rests(tmp_path):
    async with running_admin(tmp_path):
        pass  # makes the database
    now = datetime.now(UTC)
    database = SqliteDatabase(f"sqlite:///{tmp_path / 'admin.db'}", lambda: now)
    try:
        store = SqlRunLogs(database)
        old, new = (RunId(f"00000000-0000-7000-8000-{number:012}") for number in (1, 2))
        some = [LogChunk(Attempt(old, 0, 1), 1, [LogLine(now, 20, "a")])] * 700
        await store.add(some, now - timedelta(days=8), 1 << 30)
        await store.add([LogChunk(Attempt(new, 0, 1), 1, [LogLine(now, 20, "b")])], now, 1 << 30)
        retention = LogRetention(store, timedelta(days=7), 1 << 30)
        pruner = Pruner([retention, Room(3)], LocalWakeup(), lambda: now)
        rounds = [(dict(await pruner.run_once()), pruner.pause_seconds() < 1) for _ in range(3)]
        assert rounds == [
            ({"log_chunks": 500, "others": 3}, True),
            ({"log_chunks": 200, "others": 0}, True),
            ({"log_chunks": 0, "others": 0}, False),
        ]
        assert await store.list(old, after=Position(), shard=None, limit=9) == []
        assert len(await store.list(new, after=Position(), shard=None, limit=9)) == 1
    finally:
        database.close()
