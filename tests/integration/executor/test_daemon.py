"""The whole daemon against an admin that does as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from executor.app import Executor
from executor.daemon import Daemon, build
from executor.errors import LifespanFailed
from executor.running.context import AsyncContext, Context
from executor.settings import ExecutorSettings
from protos.errors import Unauthenticated, Unreachable
from protos.executor.v1 import link_pb2 as pb
from protos.exits import Exit, exit_code_of
from tests.support.fake_admin import FakeAdmin, serving

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(app: Executor, port: int, data: Path, **more: object) -> AsyncIterator[Daemon]:
    settings = ExecutorSettings.from_env(
        **{"admin": f"127.0.0.1:{port}", "data": data, "name": "me", "drain_seconds": 5, "release_seconds": 0, **more}
    )
    async with build(settings, app) as daemon:
        task = asyncio.create_task(daemon.run())
        try:
            yield daemon
        finally:
            daemon.stop()
            async with asyncio.timeout(15):
                await task


class App(Executor):
    """Handlers that end when the test says, and one that tells when it was cancelled."""

    def __init__(self) -> None:
        super().__init__("group")
        self.go_on = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.job("add")(self.add)
        self.job("wait")(self.wait)

    def add(self, context: Context, params: dict[str, int]) -> int:
        context.log.info("adding %d numbers", len(params))
        context.progress(1, 2)
        return sum(params.values())

    async def wait(self, context: AsyncContext) -> str:
        context.progress(1, 2)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        return "went on"


async def test_an_assignment_runs_and_its_outcome_is_reported(tmp_path: Path) -> None:
    admin = FakeAdmin()
    async with serving(admin) as server, running(App(), server.port, tmp_path):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "add", shard=2, total=4, params='{"a": 1, "b": 2}')
        outcome = await admin.outcome(key)
        assert admin.lines == ["adding 2 numbers"], "what an attempt logged comes before its report"
    register = admin.registered[0]
    assert (register.group, register.name, register.slots) == ("group", "me", 4)
    assert {handler.name for handler in register.handlers} == {"add", "wait"}
    assert '"integer"' in next(handler.params_schema for handler in register.handlers if handler.name == "add")
    assert admin.accepted == [key]
    assert (outcome.state, outcome.result) == (pb.OUTCOME_STATE_SUCCEEDED, "3")
    assert (outcome.counters.done, outcome.counters.total) == (1, 2)
    assert outcome.ended_at_ms >= outcome.started_at_ms > 0


async def test_an_attempt_that_runs_is_held_and_tells_how_far_it_is(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), App()
    async with serving(admin) as server, running(app, server.port, tmp_path):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "wait")
        await admin.until(lambda: admin.progress)
        await admin.until(lambda: admin.beats[-1].held)
        assert (admin.progress[0].counters.done, admin.progress[0].counters.total) == (1, 2)
        app.go_on.set()
        assert (await admin.outcome(key)).result == '"went on"'
        await admin.until(lambda: not admin.beats[-1].held)


async def test_a_cancelled_attempt_stops_and_says_so(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), App()
    async with serving(admin) as server, running(app, server.port, tmp_path):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "wait")
        await admin.until(lambda: admin.accepted == [key])
        attempt = pb.Attempt(run_id="run", shard=0, term=1)
        admin.say(pb.ConnectResponse(cancel=pb.Cancel(attempt=attempt, reason="by hand")))
        outcome = await admin.outcome(key)
    assert outcome.state == pb.OUTCOME_STATE_CANCELLED
    assert outcome.error_message == "The attempt was stopped: by hand."


async def test_what_cannot_be_taken_is_refused(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), App()
    async with serving(admin) as server, running(app, server.port, tmp_path, slots=1):
        await admin.until(lambda: admin.beats)
        keys = [admin.assign("run", handler, shard=n) for n, handler in enumerate(("nobody", "wait", "wait"))]
        await admin.until(lambda: len(admin.refused) == 2)
        assert admin.refused == {keys[0]: "unknown_handler", keys[2]: "no_free_slot"}
        app.go_on.set()


async def test_an_attempt_whose_lease_lapsed_stops_and_reports_nothing(tmp_path: Path) -> None:
    admin, app = FakeAdmin(lease_ms=600), App()
    async with serving(admin) as server, running(app, server.port, tmp_path):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "wait")
        await admin.until(lambda: admin.accepted == [key])
        admin.answers_beats = False
        async with asyncio.timeout(30):
            await app.was_cancelled.wait()
        admin.answers_beats = True
        await admin.until(lambda: not admin.beats[-1].held)
        other = admin.assign("run", "add", shard=1, params="{}")
        await admin.outcome(other)
    assert [outcome.attempt.shard for outcome in admin.outcomes] == [1]


@pytest.mark.parametrize("said_by", ["beat", "lease lost"])
async def test_an_attempt_that_the_admin_gave_to_another_stops_and_reports_nothing(
    tmp_path: Path, said_by: str
) -> None:
    admin, app = FakeAdmin(), App()
    async with serving(admin) as server, running(app, server.port, tmp_path):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "wait")
        await admin.until(lambda: admin.accepted == [key])
        if said_by == "beat":
            admin.lost.add(key)
        else:
            attempt = pb.Attempt(run_id="run", shard=0, term=1)
            admin.say(pb.ConnectResponse(lease_lost=pb.LeaseLost(attempt=attempt)))
        async with asyncio.timeout(30):
            await app.was_cancelled.wait()
        await admin.until(lambda: not admin.beats[-1].held)
    assert admin.outcomes == []


async def test_an_attempt_goes_on_while_the_admin_restarts(tmp_path: Path) -> None:
    first, second, app = FakeAdmin(lease_ms=5_000), FakeAdmin(lease_ms=5_000), App()
    async with serving(first) as server:
        port = server.port
        daemon = running(app, port, tmp_path)
        await daemon.__aenter__()
        await first.until(lambda: first.beats)
        key = first.assign("run", "wait")
        await first.until(lambda: first.accepted)
    app.go_on.set()
    async with serving(second, port):
        await second.until(lambda: second.registered)
        assert (await second.outcome(key)).state == pb.OUTCOME_STATE_SUCCEEDED
        await daemon.__aexit__(None, None, None)
    held = second.registered[0].held[0]
    assert (held.run_id, held.shard, held.term) == key


async def test_what_was_logged_while_the_admin_was_away_comes_before_the_report_too(tmp_path: Path) -> None:
    first, second, app = FakeAdmin(lease_ms=5_000), FakeAdmin(lease_ms=5_000), App()

    @app.job("late")
    async def late(context: AsyncContext) -> None:
        await app.go_on.wait()
        context.log.info("while nobody heard")

    async with serving(first) as server:
        port = server.port
        daemon = running(app, port, tmp_path)
        await daemon.__aenter__()
        await first.until(lambda: first.beats)
        key = first.assign("run", "late")
        await first.until(lambda: first.accepted)
    app.go_on.set()
    async with asyncio.timeout(30):
        while not list(tmp_path.rglob("*.outcome")):
            await asyncio.sleep(0.02)
    async with serving(second, port):
        await second.outcome(key)
        await daemon.__aexit__(None, None, None)
    assert second.lines == ["while nobody heard"]
    assert second.told.index("log_lines") < second.told.index("report")


async def test_an_outcome_that_was_not_accepted_is_reported_by_the_next_process(tmp_path: Path) -> None:
    admin = FakeAdmin(answers_reports=False)
    async with serving(admin) as server:
        settings = ExecutorSettings(admin=f"127.0.0.1:{server.port}", data=tmp_path)
        async with build(settings, App()) as daemon:
            task = asyncio.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            key = admin.assign("run", "add", params="{}")
            await admin.outcome(key)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert len(list(tmp_path.rglob("*.outcome"))) == 1
        admin.outcomes.clear()
        admin.answers_reports = True
        admin.verdict = pb.VERDICT_SUPERSEDED
        async with running(App(), server.port, tmp_path):
            await admin.outcome(key)
            await admin.until(lambda: admin.beats and not admin.beats[-1].held)
    assert list(tmp_path.rglob("*.outcome")) == []


async def test_a_drain_hands_back_what_runs_and_ends(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), App()
    async with serving(admin) as server:
        async with running(app, server.port, tmp_path) as daemon:
            await admin.until(lambda: admin.beats)
            key = admin.assign("run", "wait")
            await admin.until(lambda: admin.accepted == [key])
            daemon.stop()
            await admin.until(lambda: admin.beats[-1].draining)
            late = admin.assign("run", "add", shard=1)
            await admin.until(lambda: admin.refused == {late: "draining"})
            app.go_on.set()
        assert admin.outcomes[0].state == pb.OUTCOME_STATE_SUCCEEDED


async def test_a_drain_releases_a_plain_handler_that_looks(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), Executor("group")
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.job("look")
    def look(context: Context) -> None:
        loop.call_soon_threadsafe(began.set)
        while True:
            context.raise_if_cancelled()

    async with serving(admin) as server:
        async with running(app, server.port, tmp_path):
            await admin.until(lambda: admin.beats)
            key = admin.assign("run", "look")
            await began.wait()
        assert (await admin.outcome(key)).state == pb.OUTCOME_STATE_RELEASED


async def test_an_executor_with_a_wrong_token_ends_and_says_why(tmp_path: Path) -> None:
    admin = FakeAdmin(token="right")
    async with serving(admin) as server:
        settings = ExecutorSettings(admin=f"127.0.0.1:{server.port}", data=tmp_path, token="wrong")
        async with build(settings, App()) as daemon:
            with pytest.RaisesGroup(Unauthenticated):
                await daemon.run()


async def test_an_admin_that_is_never_found_ends_the_executor_if_asked_to(tmp_path: Path) -> None:
    settings = ExecutorSettings(admin="127.0.0.1:1", data=tmp_path, connect_seconds=0.1)
    async with build(settings, App()) as daemon:
        with pytest.RaisesGroup(Unreachable):
            await daemon.run()


class Living(App):
    """An app with a lifespan that says how far it is."""

    def __init__(self, *, fails: str = "") -> None:
        super().__init__()
        self.seen: list[str] = []
        self.fails = fails
        self.lifespan = self.live
        self.job("look")(self.look)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[dict[str, int]]:
        self.fail("began")
        self.seen.append("open")
        yield {"x": 5}
        self.seen.append("closed")
        self.fail("ended")

    def fail(self, when: str) -> None:
        if self.fails == when:
            raise KeyError("sesame")

    async def look(self, context: AsyncContext) -> object:
        try:
            await self.go_on.wait()
        finally:
            self.seen.append("handler ended")
        return context.state


async def test_a_lifespan_is_open_before_anything_is_taken_and_until_all_has_ended(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), Living()
    async with serving(admin) as server, running(app, server.port, tmp_path):
        await admin.until(lambda: admin.registered)
        assert app.seen == ["open"]
        key = admin.assign("run", "look")
        await admin.until(lambda: admin.accepted == [key])
        app.go_on.set()
        assert (await admin.outcome(key)).result == '{"x":5}'
        await admin.until(lambda: not admin.beats[-1].held)
        admin.assign("run", "look", shard=1)
        await admin.until(lambda: len(admin.accepted) == 2)
        assert "closed" not in app.seen
    assert app.seen == ["open", "handler ended", "handler ended", "closed"]


async def registering(app: Executor, admin: FakeAdmin, port: int, data: Path) -> None:
    async with running(app, port, data):
        await admin.until(lambda: admin.registered)


@pytest.mark.parametrize("when", ["began", "ended"])
async def test_a_lifespan_that_fails_is_told_plainly_and_nobody_registers(tmp_path: Path, when: str) -> None:
    admin, app = FakeAdmin(), Living(fails=when)
    async with serving(admin) as server:
        with pytest.raises(LifespanFailed, match=f"{when}: KeyError: 'sesame'") as told:
            await registering(app, admin, server.port, tmp_path)
    assert bool(admin.registered) is (when == "ended")
    assert exit_code_of(told.value) is Exit.BAD_CONFIGURATION
