"""Limits within an app: listeners and handlers, plain and async, and stores that go away and come back."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.client import Message, Producer, ReceivedMessage
from broker.testing import running_broker
from executor.app import Executor
from executor.daemon import build
from executor.errors import ClaimHeld, LimitsUnreachable, Retry
from executor.limits.current import current_async_limits, current_limits, once, once_all, using
from executor.limits.limits import AsyncLimits, Limits
from executor.limits.sql.store import PRUNE_EVERY
from executor.limits.sql.tables import METADATA
from executor.running.listening.joining import BrokerGroups
from executor.running.listening.listening import Listening
from executor.settings import ExecutorSettings
from executor.testing import run_local
from tests.support.admin_databases import end_connections
from tests.support.fake_admin import FakeAdmin, serving
from tests.support.limit_stores import Clock
from tests.support.redis_server import running_redis

DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
SECONDS = 30.0  # until a test fails that waits for what never comes


class Effects:
    """What was done, and a way to wait for it."""

    def __init__(self, enough: Callable[["Effects"], bool]) -> None:
        self.done: list[str] = []
        self.attempts: list[int] = []
        self._is_enough = enough
        self._changed = threading.Condition()

    def add(self, keys: list[str], attempt: int) -> None:
        with self._changed:
            self.done += keys
            self.attempts.append(attempt)
            self._changed.notify_all()

    def wait(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._is_enough(self), timeout=SECONDS)


async def listen(broker: str, app: Executor, effects: Effects, *messages: Message) -> None:
    """Publishes, and runs the app's only listener, as the daemon does, until there are enough calls."""
    async with Producer(broker) as producer:
        await producer.publish_batch("t", messages)
    [listener] = app.registry.listeners
    listening = Listening(listener, BrokerGroups(broker, ""))
    with using(app.limits):
        running = asyncio.create_task(listening.run())
    assert await asyncio.to_thread(effects.wait)
    listening.stop()
    async with asyncio.timeout(SECONDS):
        await running


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["lease", "offset"])
async def test_a_message_that_comes_again_has_its_effect_once(tmp_path: Path, mode: str) -> None:
    app, effects = (
        Executor("group", limits=f"sqlite:///{tmp_path / 'limits.db'}"),
        Effects(lambda it: len(it.attempts) == 3),
    )

    @app.consumer("t", group="g", mode=mode)  # type: ignore[arg-type]
    def deliver(message: ReceivedMessage) -> None:
        with once(message.key or "", window=DAY) as is_first:
            effects.add([message.key or ""] if is_first else [], message.attempt)
        if message.attempt < 3:
            raise Retry(after=0)  # behind the effect, as when the acknowledgement is lost

    async with running_broker(tmp_path / "broker") as broker:
        await listen(broker, app, effects, Message(b"x", key="push-1"))
    assert (effects.done, effects.attempts) == (["push-1"], [1, 2, 3])


@pytest.mark.anyio
async def test_a_list_comes_again_for_the_keys_that_another_one_holds(tmp_path: Path) -> None:
    clock, effects = Clock(), Effects(lambda it: len(it.done) == 3)
    limits = Limits("memory://", now=clock)
    app = Executor("group", limits=limits)
    limits.once("k1", window=DAY, claim=SECOND / 10).__enter__()  # its process dies

    @app.consumer("t", group="g")
    async def deliver(messages: list[ReceivedMessage]) -> None:
        async with once_all([message.key or "" for message in messages], window=DAY) as fresh:
            effects.add(list(fresh), messages[0].attempt)
            if fresh.held:
                clock.now += SECOND

    async with running_broker(tmp_path / "broker") as broker:
        await listen(broker, app, effects, *(Message(b"x", key=f"k{n}", ordered=True) for n in range(3)))
    assert sorted(effects.done) == ["k0", "k1", "k2"]
    assert max(effects.attempts) == 2


@pytest.mark.anyio
async def test_handlers_of_an_app_have_its_limits(tmp_path: Path) -> None:
    app, admin = Executor("group", limits=f"sqlite:///{tmp_path / 'limits.db'}"), FakeAdmin()

    @app.job("plain")
    def plain(params: str) -> bool:
        return current_limits().cap(params, most=2, window=DAY)

    @app.job("async")
    async def other(params: str) -> bool:
        async with once(params, window=DAY):
            return await current_async_limits().cap(params, most=2, window=DAY)

    settings = ExecutorSettings.from_env(data=tmp_path / "data", name="me", drain_seconds=5)
    async with serving(admin) as server:
        there = settings.model_copy(update={"admin": f"127.0.0.1:{server.port}"})
        async with build(there, app) as daemon, asyncio.TaskGroup() as group:
            group.create_task(daemon.run())
            await admin.until(lambda: admin.beats)
            keys = [admin.assign(f"run{n}", ["plain", "async"][n % 2], params='"user-1"') for n in range(3)]
            results = [(await admin.outcome(key)).result for key in keys]
            daemon.stop()
    assert sorted(results) == ["false", "true", "true"]


def test_a_handler_that_is_tested_alone_has_limits_in_memory() -> None:
    def handler(params: str) -> bool:
        with once(params, window=DAY) as is_first:
            return is_first

    limits = Limits("memory://")
    assert [run_local(handler, "a").result for _ in range(2)] == [True, True]
    assert [run_local(handler, "a", limits=limits).result for _ in range(2)] == [True, False]


@pytest.mark.anyio
async def test_async_code_has_the_same_limits(tmp_path: Path) -> None:
    limits = AsyncLimits(f"sqlite:///{tmp_path / 'limits.db'}")
    async with limits.once("a", window=DAY) as is_first:
        assert is_first
        with pytest.raises(ClaimHeld):
            async with limits.once("a", window=DAY):
                pass
    assert [wait == timedelta(0) for wait in await limits.take_all(["a", "a"], rate=1, per=DAY)] == [True, False]
    assert await limits.take("a", rate=1, per=DAY) > timedelta(0)
    assert await limits.cap("a", most=1, window=DAY)
    assert await limits.cap_all(["a", "b"], most=1, window=DAY) == ["b"]
    with using(Limits("memory://")):
        assert await current_async_limits().cap("a", most=1, window=DAY)
        assert not current_limits().cap("a", most=1, window=DAY)


@pytest.mark.anyio
async def test_a_claim_whose_task_was_cancelled_while_it_waited_is_given_back(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'limits.db'}")
    limits = AsyncLimits(engine)
    assert await limits.cap("makes the tables", most=1, window=DAY)
    blocker = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    blocker.exec_driver_sql("BEGIN IMMEDIATE")
    entered = asyncio.Event()

    async def claim() -> None:
        entering = limits.once("a", window=DAY)
        entered.set()
        await entering.__aenter__()

    task = asyncio.create_task(claim())
    await entered.wait()
    await asyncio.sleep(0)  # it is in its thread, behind the blocker
    task.cancel()
    blocker.exec_driver_sql("COMMIT")
    with pytest.raises(asyncio.CancelledError):
        await task
    async with limits.once("a", window=DAY) as is_first:
        assert is_first


def test_a_redis_that_went_away_is_told_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, closing(Limits(server.url)) as limits:
        assert limits.cap("a", most=1, window=DAY)
        server.kill()
        with pytest.raises(LimitsUnreachable):
            limits.cap("a", most=1, window=DAY)
        server.start()
        assert limits.cap("a", most=1, window=DAY)  # without persistence it forgets


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_database_whose_connections_were_cut_is_asked_again(request: pytest.FixtureRequest, kind: str) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    with closing(Limits(url)) as limits:
        assert limits.cap("a", most=1, window=DAY)
        end_connections(url)
        assert not limits.cap("a", most=1, window=DAY)


def test_a_database_that_is_locked_is_told(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'limits.db'}", connect_args={"timeout": 0.01})
    limits = Limits(engine)
    assert limits.cap("a", most=2, window=DAY)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as blocker:
        blocker.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(LimitsUnreachable, match="locked"):
            limits.cap("a", most=2, window=DAY)
        blocker.exec_driver_sql("ROLLBACK")
    assert [limits.cap("a", most=2, window=DAY) for _ in range(2)] == [True, False]


def test_rows_that_have_expired_are_pruned(tmp_path: Path) -> None:
    clock, engine = Clock(), sa.create_engine(f"sqlite:///{tmp_path / 'limits.db'}")
    limits = Limits(engine, now=clock)
    for number in range(4):
        with limits.once_all([f"{number}-{key}" for key in range(PRUNE_EVERY)], window=SECOND):
            pass
        limits.cap_all([f"{number}-{key}" for key in range(PRUNE_EVERY)], most=1, window=SECOND)
        clock.now += 2 * SECOND
    with engine.connect() as connection:
        for name in ("shardcast_once", "shardcast_caps"):
            kept = connection.scalar(sa.select(sa.func.count()).select_from(METADATA.tables[name]))
            assert kept is not None
            assert kept <= 2 * PRUNE_EVERY, name
