"""The whole system while a scenario plays: broker, admin, executors, push consumers, the API, each a process."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from examples.marketing.errors import SceneFailed
from examples.marketing.jobs import declare
from examples.marketing.scenarios.users import fill
from examples.marketing.settings import FILE_VARIABLE, Settings
from examples.marketing.shop import Shop, opened
from shardcast.demo.chaos import striking
from shardcast.demo.memory import peak_rss_mb
from shardcast.demo.scenarios import Stage
from shardcast.supervisor import Command
from shardcast.up import Endpoints, Fleet, Plan, running

APP, DELIVERY = "examples.marketing.app:app", "examples.marketing.app:delivery"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class World:
    """What a scenario works with. `kills` are those of the kill switch by kind of daemon."""

    shop: Shop
    api: httpx.AsyncClient
    fleet: Fleet
    environment: Mapping[str, str]
    records: Path
    kills: Counter[str]
    peaks: dict[str, float]

    def recorded(self) -> Sequence[Path]:
        """The files with the calls that the provider got."""
        return sorted(self.records.glob("*.jsonl"))

    async def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """Calls the API, again while what it needs is away. Raises SceneFailed."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    answer = await self.api.request(method, path, json=body, headers=headers)
                    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        return _told(answer)
                    await asyncio.sleep(0.1)
        except (TimeoutError, httpx.TransportError) as error:
            reason = f"the API did not answer {method} {path} within {PATIENCE_SECONDS:.0f} s."
            raise SceneFailed(reason=reason) from error

    def look(self) -> None:
        """Keeps the largest resident size of each kind of process so far, in MiB."""
        for daemon in self.fleet.daemons:
            if daemon.pid is not None:
                kind = daemon.command.kind
                self.peaks[kind] = max(self.peaks.get(kind, 0.0), round(peak_rss_mb(daemon.pid), 1))


def _told(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    asked = f"{answer.request.method} {answer.request.url.path}"
    try:
        raise SceneFailed(reason=f"{asked} was refused: {answer.json()['detail']}")
    except (ValueError, KeyError, TypeError):
        raise SceneFailed(reason=f"{asked} was answered {answer.status_code}.") from None


@asynccontextmanager
async def staged(stage: Stage, database: str | None = None, **settings: object) -> AsyncIterator[World]:
    """Everything on `stage.users` users; `settings` are further ones by section."""
    url = database or f"sqlite:///{quote(str(stage.data / 'marketing.db'))}"
    file, records = stage.data / "marketing.yaml", stage.data / "deliveries"
    plan = Plan(data=stage.data, executors=0, http_port=0, grpc_port=0, broker_port=0)
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(running(plan))
        _emptied(records)  # now that nobody else plays here
        given = _settings(fleet.endpoints, url, records) | settings
        file.write_text(yaml.safe_dump(given))
        shop = stack.enter_context(opened(Settings.load(file)))
        filling = fill(shop.database, stage.users)
        while await asyncio.to_thread(next, filling, None) is not None:
            pass  # between two chunks it can be broken off
        with shop.admin() as admin:
            await asyncio.to_thread(declare, admin)
        environment = {FILE_VARIABLE: str(file)}
        await fleet.start_executors(APP, stage.executors, environment=environment)
        await fleet.start_executors(DELIVERY, stage.consumers, kind="consumer", environment=environment)
        await fleet.start([Command("api", "api", _api_arguments, environment)])
        address, patience = fleet.daemons[-1].endpoints["http"], httpx.Timeout(30, pool=None)
        http = httpx.AsyncClient(base_url=f"http://{address}", timeout=patience, trust_env=False)
        api = await stack.enter_async_context(http)
        kills: Counter[str] = Counter()
        if stage.is_chaotic:
            kills = await stack.enter_async_context(striking(fleet.daemons, random.Random()))
        yield World(shop, api, fleet, environment, records, kills, {})


def _settings(endpoints: Endpoints, database: str, records: Path) -> dict[str, object]:
    provider = {"kind": "recording", "directory": str(records)}
    return {
        "rocketmq": {"name_server": endpoints.broker},
        "admin": {"server": endpoints.http, "token_file": str(endpoints.token_file)},
        "database": database,
        "app_push": provider,
        "sms": provider,
        "mail": provider,
    }


def _api_arguments(endpoints: Mapping[str, str]) -> list[str]:
    port = endpoints["http"].rpartition(":")[2] if endpoints else "0"
    return ["examples.marketing.api", "--port", port]


def _emptied(records: Path) -> None:
    records.mkdir(parents=True, exist_ok=True)
    for record in records.glob("*.jsonl"):
        record.unlink()
