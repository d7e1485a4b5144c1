"""The executor's probe over HTTP, as Kubernetes and Prometheus ask."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from executor.app import Executor
from executor.daemon import Daemon, build
from executor.errors import Fail
from executor.running.context import AsyncContext
from executor.settings import ExecutorSettings
from protos.errors import AddressInUse
from tests.support.fake_admin import FakeAdmin, serving

pytestmark = pytest.mark.anyio

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@asynccontextmanager
async def running(app: Executor, port: int, data: Path) -> AsyncIterator[tuple[Daemon, httpx.AsyncClient]]:
    settings = ExecutorSettings.from_env(
        admin=f"127.0.0.1:{port}", data=data, probe_port=0, drain_seconds=5, slots=3, connect_seconds=60
    )
    async with build(settings, app) as daemon:
        task = asyncio.create_task(daemon.run())
        try:
            async with httpx.AsyncClient(base_url=f"http://{daemon.endpoints['probe']}") as client:
                yield daemon, client
        finally:
            daemon.stop()
            async with asyncio.timeout(15):
                await task


class App(Executor):
    """Handlers that end when the test says, fail, or log too much."""

    def __init__(self) -> None:
        super().__init__("group")
        self.go_on = asyncio.Event()
        self.job("wait")(self.wait)
        self.job("fail")(self.fail)
        self.job("chat")(self.chat)

    async def wait(self) -> None:
        await self.go_on.wait()

    async def fail(self) -> None:
        raise Fail("on purpose")

    async def chat(self, context: AsyncContext) -> None:
        for number in range(1_007):
            context.log.info("line %d", number)


async def scrape(client: httpx.AsyncClient) -> Samples:
    response = await client.get("/metrics")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for each in families for sample in each.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"shardcast_executor_{name}", frozenset(labels.items())]


async def scraped_until(client: httpx.AsyncClient, condition: Callable[[Samples], bool]) -> Samples:
    """A monitor looks again and again."""
    async with asyncio.timeout(30):
        while not condition(samples := await scrape(client)):
            await asyncio.sleep(0.02)
    return samples


async def readiness_until(client: httpx.AsyncClient, status: int) -> str:
    async with asyncio.timeout(30):
        while (response := await client.get("/readyz")).status_code != status:
            await asyncio.sleep(0.02)
    return response.text


async def test_an_executor_is_ready_while_it_is_linked_and_takes_shards(tmp_path: Path) -> None:
    admin, app = FakeAdmin(lease_ms=30_000, welcomes=False), App()
    async with serving(admin) as server:
        port = server.port
        probed = running(app, port, tmp_path)
        daemon, client = await probed.__aenter__()
        await admin.until(lambda: admin.registered)
        assert await readiness_until(client, 503) == "No admin has let it in yet.\n"
        admin.welcomes = True
        admin.close()
        assert await readiness_until(client, 200) == "ok\n"
    assert await readiness_until(client, 503) == "It has lost its link and looks for an admin.\n"
    assert value(await scrape(client), "linked") == 0
    second = FakeAdmin(lease_ms=30_000)
    async with serving(second, port):
        await readiness_until(client, 200)
        assert value(await scrape(client), "linked") == 1
        key = second.assign("run", "wait")
        await second.until(lambda: second.accepted == [key])
        daemon.stop()
        assert await readiness_until(client, 503) == "It drains.\n"
        assert (await client.get("/livez")).status_code == 200, "an executor that drains must not be killed"
        assert value(await scrape(client), "draining") == 1
        assert (await client.get("/other")).status_code == 404
        app.go_on.set()
        await probed.__aexit__(None, None, None)


async def test_a_monitor_sees_attempts_by_state_slots_and_reports(tmp_path: Path) -> None:
    admin, app = FakeAdmin(lease_ms=30_000, answers_reports=False), App()
    async with serving(admin) as server, running(app, server.port, tmp_path) as (_, client):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "wait")
        await admin.outcome(admin.assign("run", "fail", shard=1))
        await admin.until(lambda: key in admin.accepted)
        samples = await scraped_until(client, lambda found: value(found, "attempts_in_progress") == 1)
        assert value(samples, "slots") == 3
        assert value(samples, "attempts_total", state="failed") == 1
        assert value(samples, "reports_waiting") == 1
        assert value(samples, "handler_seconds_count", handler="fail") == 1
        assert value(samples, "handler_seconds_bucket", handler="fail", le="+Inf") == 1
        assert ("shardcast_executor_handler_seconds_count", frozenset({("handler", "wait")})) not in samples
        admin.answers_reports = True
        app.go_on.set()
        await admin.outcome(key)
        samples = await scraped_until(client, lambda found: value(found, "attempts_in_progress") == 0)
        assert value(samples, "attempts_total", state="succeeded") == 1


async def test_an_attempt_that_reports_nothing_counts_as_lost(tmp_path: Path) -> None:
    admin = FakeAdmin(lease_ms=30_000)
    async with serving(admin) as server, running(App(), server.port, tmp_path) as (_, client):
        await admin.until(lambda: admin.beats)
        key = admin.assign("run", "wait")
        await admin.until(lambda: admin.accepted == [key])
        admin.lost.add(key)
        samples = await scraped_until(client, lambda found: value(found, "attempts_in_progress") == 0)
    assert value(samples, "attempts_total", state="lost") == 1


async def test_log_lines_beyond_the_cap_are_counted(tmp_path: Path) -> None:
    admin = FakeAdmin(lease_ms=30_000)
    async with serving(admin) as server, running(App(), server.port, tmp_path) as (_, client):
        await admin.until(lambda: admin.beats)
        await admin.outcome(admin.assign("run", "chat"))
        assert value(await scrape(client), "log_lines_dropped_total") == 7


async def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ExecutorSettings(data=tmp_path, probe_port=taken.getsockname()[1])
        with pytest.raises(AddressInUse):
            async with build(settings, App()):
                pass


async def test_without_a_port_it_listens_nowhere(tmp_path: Path) -> None:
    async with build(ExecutorSettings(data=tmp_path), App()) as daemon:
        assert daemon.endpoints == {}
