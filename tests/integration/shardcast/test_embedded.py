"""An executor inside somebody else's event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from executor.app import Executor
from protos.errors import BadConfiguration, Unauthenticated, Unreachable
from shardcast.aio import Context, running
from tests.support.fake_admin import FakeAdmin, serving

pytestmark = pytest.mark.anyio


class App(Executor):
    """Has one handler, which goes on when it is told to."""

    def __init__(self) -> None:
        super().__init__("group")
        self.go_on, self.begun, self.loops = asyncio.Event(), asyncio.Event(), list[object]()
        self.job("wait")(self.wait)

    async def wait(self, context: Context) -> str:
        self.loops.append(asyncio.get_running_loop())
        self.begun.set()
        await self.go_on.wait()
        return "went on"


async def test_it_runs_handlers_in_the_callers_loop_and_drains_at_the_end(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), App()
    async with serving(admin) as server:
        async with running(app, admin=f"127.0.0.1:{server.port}", data=tmp_path, name="inside", slots=2):
            assert [(each.name, each.slots) for each in admin.registered] == [("inside", 2)]
            key = admin.assign("run", "wait")
            await app.begun.wait()
            app.go_on.set()
        assert (await admin.outcome(key)).result == '"went on"', "it was reported before the block was left"
    assert app.loops == [asyncio.get_running_loop()]


async def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin(token="secret")
    async with serving(admin) as server:
        monkeypatch.setenv("SHARDCAST_ADMIN", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("SHARDCAST_DATA", str(tmp_path))
        monkeypatch.setenv("SHARDCAST_TOKEN", "secret")
        async with running(App()):
            assert len(admin.registered) == 1
        with pytest.raises(BadConfiguration, match="slots"):
            async with running(App(), slots=0):
                raise AssertionError("never begun")


async def test_a_refusal_comes_out_as_one_error(tmp_path: Path) -> None:
    async with serving(FakeAdmin(token="secret")) as server:
        with pytest.raises(Unauthenticated):
            async with running(App(), admin=f"127.0.0.1:{server.port}", token="other", data=tmp_path):
                raise AssertionError("never begun")


async def test_an_admin_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        async with running(App(), admin="127.0.0.1:1", data=tmp_path, connect_seconds=0.1):
            raise AssertionError("never begun")


async def test_an_error_of_the_block_comes_out_as_it_is_behind_the_drain(tmp_path: Path) -> None:
    admin, app = FakeAdmin(), App()

    async def block(address: str) -> None:
        async with running(app, admin=address, data=tmp_path, drain_seconds=5):
            admin.assign("run", "wait")
            await app.begun.wait()
            app.go_on.set()
            raise LookupError("mine")

    async with serving(admin) as server:
        with pytest.raises(LookupError, match="mine"):
            await block(f"127.0.0.1:{server.port}")
        assert [outcome.result for outcome in admin.outcomes] == ['"went on"']


async def test_a_block_that_is_cancelled_while_it_drains_leaves_its_handlers(tmp_path: Path) -> None:
    """As the second signal does in the daemon: coroutines are cancelled, nothing is reported."""
    admin, app = FakeAdmin(), App()

    async def block(address: str) -> None:
        async with running(app, admin=address, data=tmp_path, drain_seconds=60, release_seconds=60):
            admin.assign("run", "wait")
            await app.begun.wait()

    async with serving(admin) as server:
        task = asyncio.create_task(block(f"127.0.0.1:{server.port}"))
        await admin.until(lambda: admin.beats and admin.beats[-1].draining)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(task, return_exceptions=True)
        assert admin.outcomes == []
        assert [each for each in asyncio.all_tasks() if "App.wait" in repr(each) or "_awaited" in repr(each)] == []


class Broken:
    """A daemon that is let in, and then breaks."""

    def __init__(self) -> None:
        self.breaks = asyncio.Event()

    async def ready(self) -> None: ...

    def stop(self) -> None: ...

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._break())

    async def _break(self) -> None:
        await self.breaks.wait()
        raise Unreachable(address="elsewhere")


async def test_what_ends_it_later_is_logged_and_raised_behind_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken()

    @asynccontextmanager
    async def build(*_: object) -> AsyncIterator[Broken]:
        yield broken

    async def block() -> None:
        async with running(App()):
            broken.breaks.set()
            while not logs:
                await asyncio.sleep(0)
            said.append("the block went on")

    said: list[str] = []
    monkeypatch.setattr("shardcast.embedded.build", build)
    with capture_logs() as logs, pytest.raises(Unreachable, match="elsewhere"):
        await block()
    assert said == ["the block went on"]
    assert [line["action"] for line in logs] == ["executor_ended"]
