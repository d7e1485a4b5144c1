"""An executor that may turn to any of several admins: it stays while one answers, and goes on when it does not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from executor.app import Executor
from executor.daemon import Daemon, build
from executor.running.context import AsyncContext
from executor.settings import ExecutorSettings
from protos.errors import Unauthenticated, Unreachable
from protos.executor.v1 import link_pb2 as pb
from tests.support.fake_admin import FakeAdmin, Key, serving

pytestmark = pytest.mark.anyio

LEASE_MS = 2_000


class App(Executor):
    """A handler that ends when the test says."""

    def __init__(self) -> None:
        super().__init__("group")
        self.go_on = asyncio.Event()
        self.job("wait")(self.wait)

    async def wait(self, context: AsyncContext) -> None:
        await self.go_on.wait()


@asynccontextmanager
async def building(data: Path, *ports: int, app: Executor | None = None, **more: object) -> AsyncIterator[Daemon]:
    """An executor that dials in this order."""
    admins = ",".join(f"127.0.0.1:{port}" for port in ports)
    settings = ExecutorSettings.from_env(admin=admins, data=data, drain_seconds=5, release_seconds=0, **more)
    async with build(settings, app or App(), chance=lambda: 0.0) as daemon:
        yield daemon


@asynccontextmanager
async def running(data: Path, *ports: int, app: Executor | None = None, **more: object) -> AsyncIterator[Daemon]:
    async with building(data, *ports, app=app, **more) as daemon:
        task = asyncio.create_task(daemon.run())
        try:
            yield daemon
        finally:
            daemon.stop()
            async with asyncio.timeout(15):
                await task


@contextmanager
def mute() -> Iterator[int]:
    """A port where calls are taken and nothing is ever said, as of a process that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def dead() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def held_by(first: FakeAdmin) -> Key:
    """Once the executor runs an attempt for this admin."""
    await first.until(lambda: first.beats)
    key = first.assign("run", "wait")
    await first.until(lambda: first.beats[-1].held)
    return key


async def test_an_executor_stays_with_the_admin_that_answers(tmp_path: Path) -> None:
    first, second = FakeAdmin(), FakeAdmin()
    async with serving(first) as one, serving(second) as two, running(tmp_path, one.port, two.port):
        await first.until(lambda: len(first.beats) >= 5)
    assert (len(first.registered), second.registered) == (1, [])


@pytest.mark.parametrize("others", [0, 2])
async def test_what_is_held_goes_on_when_the_admin_is_gone(tmp_path: Path, others: int) -> None:
    """With dead ones between the admin that is gone and the one that is found."""
    first, second, app = FakeAdmin(lease_ms=LEASE_MS), FakeAdmin(lease_ms=LEASE_MS), App()
    async with AsyncExitStack() as stack:
        second_port = (await stack.enter_async_context(serving(second))).port
        async with serving(first) as one:
            ports = (one.port, *(dead() for _ in range(others)), second_port)
            await stack.enter_async_context(running(tmp_path, *ports, app=app))
            key = await held_by(first)
        await second.until(lambda: second.beats, seconds=1.0)  # nothing is waited for
        app.go_on.set()
        assert (await second.outcome(key)).state == pb.OUTCOME_STATE_SUCCEEDED
    (held,) = second.registered[0].held
    assert (held.run_id, held.shard, held.term) == key


async def test_an_admin_that_ends_the_link_in_good_order_is_left_at_once(tmp_path: Path) -> None:
    first, second, app = FakeAdmin(), FakeAdmin(), App()
    async with serving(first) as one, serving(second) as two, running(tmp_path, one.port, two.port, app=app):
        await held_by(first)
        first.close()
        await second.until(lambda: second.beats and second.beats[-1].held, seconds=1.0)
        app.go_on.set()
        assert len(first.registered) == 1


async def test_an_attempt_outlives_an_admin_that_fell_silent(tmp_path: Path) -> None:
    first, second, app = FakeAdmin(lease_ms=LEASE_MS), FakeAdmin(lease_ms=LEASE_MS), App()
    async with serving(first) as one, serving(second) as two, running(tmp_path, one.port, two.port, app=app):
        key = await held_by(first)
        first.answers_beats = False
        await second.until(lambda: second.beats and second.beats[-1].held)
        app.go_on.set()
        assert (await second.outcome(key)).state == pb.OUTCOME_STATE_SUCCEEDED


async def test_a_report_without_an_answer_is_made_to_the_next_admin(tmp_path: Path) -> None:
    first, second, app = FakeAdmin(answers_reports=False), FakeAdmin(), App()
    async with serving(first) as one, serving(second) as two, running(tmp_path, one.port, two.port, app=app):
        key = await held_by(first)
        app.go_on.set()
        await first.outcome(key)
        first.close()
        await second.outcome(key)
        await second.until(lambda: second.beats and not second.beats[-1].held)
    assert list(tmp_path.rglob("*.outcome")) == []


async def test_admins_that_take_the_call_and_say_nothing_are_passed_over(tmp_path: Path) -> None:
    shy, second = FakeAdmin(welcomes=False), FakeAdmin()
    with mute() as stopped:
        async with serving(shy) as one, serving(second) as two, running(tmp_path, stopped, one.port, two.port):
            await second.until(lambda: second.beats, seconds=5.0)
            assert len(shy.registered) == 1


async def test_one_admin_that_refuses_does_not_end_the_executor(tmp_path: Path) -> None:
    strange, second = FakeAdmin(token="another"), FakeAdmin(token="right")
    async with serving(strange) as one, serving(second) as two, running(tmp_path, one.port, two.port, token="right"):
        await second.until(lambda: second.beats)


async def test_an_executor_that_all_admins_refuse_ends_and_says_why(tmp_path: Path) -> None:
    first, second = FakeAdmin(token="right"), FakeAdmin(token="right")
    async with serving(first) as one, serving(second) as two, building(tmp_path, one.port, two.port) as daemon:
        with pytest.RaisesGroup(Unauthenticated):
            await daemon.run()


async def test_admins_of_which_none_is_found_are_all_named(tmp_path: Path) -> None:
    ports = sorted((dead(), dead()))
    async with building(tmp_path, *ports, connect_seconds=0.1) as daemon:
        with pytest.RaisesGroup(pytest.RaisesExc(Unreachable, match=f"127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}")):
            await daemon.run()
