"""The demo's course: start the daemons, order the run, follow it, wait for the last delivery, compare, report."""

import asyncio
import random
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from broker.client import GroupClient, GroupState
from broker.errors import BrokerStopping, UnknownGroup
from protos.errors import ShardcastError, TimedOut, Unreachable
from shardcast.demo import check, delivery
from shardcast.demo.app import DATABASE_VARIABLE, TOPIC
from shardcast.demo.audience import Audience
from shardcast.demo.chaos import striking
from shardcast.demo.memory import peak_rss_mb
from shardcast.demo.report import Report
from shardcast.rest import RestClient
from shardcast.supervisor import Command, Daemon
from shardcast.up import Fleet, Plan, running

JOB = "promotion-push"
POLL_SECONDS = 0.2
PASSING = (Unreachable, TimedOut, BrokerStopping)  # a daemon that was killed is back in a moment
APP = "shardcast.demo.app:app"

T = TypeVar("T")


class RunFailed(ShardcastError):
    """The run {run_id} {state}: {reason}"""

    code = "run_failed"


@dataclass(frozen=True, slots=True)
class Campaign:
    """What shall be pushed to whom, by how many."""

    audience: Audience
    data: Path
    shards: int = 8
    executors: int = 2
    consumers: int = 2
    deliveries: Path | None = None
    promotion_id: int = 42
    is_chaotic: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """What happened: the run and its shards as REST tells them, and when everything was read, in epoch seconds."""

    run: Mapping[str, Any]
    shards: Sequence[Mapping[str, Any]]
    read_at: float
    kills: Mapping[str, int] | None


@dataclass(slots=True)
class Progress:
    """How far a campaign is; `show` is told at each look."""

    show: Callable[[int, int], None]
    records: Sequence[Path]
    published: int = 0
    delivered: int = 0
    _read: dict[Path, int] = field(default_factory=dict)

    def look(self) -> None:
        for path in self.records:
            with suppress(FileNotFoundError), path.open("rb") as lines:
                lines.seek(self._read.get(path, 0))
                while block := lines.read(1 << 20):
                    self.delivered += block.count(b"\n")
                self._read[path] = lines.tell()
        self.show(self.published, self.delivered)


async def hold(campaign: Campaign, show: Callable[[int, int], None]) -> Report:
    """Runs the campaign on daemons of its own and stops them. Raises RunFailed and what starting daemons raises."""
    records = [campaign.data / f"deliveries-{number}.jsonl" for number in range(1, campaign.consumers + 1)]
    plan = Plan(
        data=campaign.data,
        executors=campaign.executors,
        app=APP,
        http_port=0,
        grpc_port=0,
        broker_port=0,
        environment={DATABASE_VARIABLE: campaign.audience.url},
    )
    progress = Progress(show, records)
    async with running(plan) as fleet:  # from here on the directory is nobody else's
        for record in records:
            record.unlink(missing_ok=True)
        await fleet.start(_consumers(fleet, records))
        memory: dict[str, float] = {}
        watching = asyncio.create_task(_watch_memory(fleet.daemons, memory))
        async with AsyncExitStack() as stack:
            switch = striking(fleet.daemons, random.Random())
            kills = await stack.enter_async_context(switch) if campaign.is_chaotic else None
            run, shards = await _run(fleet, campaign, progress)
            course = Course(run, shards, await _delivered(fleet, progress), kills)
        watching.cancel()
        _look_at_memory(fleet.daemons, memory)
    return await asyncio.to_thread(_report, campaign, course, records, memory)


def _consumers(fleet: Fleet, records: Sequence[Path]) -> list[Command]:
    environment = {"SHARDCAST_BROKER": fleet.endpoints.broker}

    def command(number: int, record: Path) -> Command:
        def arguments(_: Mapping[str, str]) -> list[str]:
            return [delivery.__name__, str(record)]

        return Command(f"consumer-{number}", "consumer", arguments, environment)

    return [command(number, record) for number, record in enumerate(records, start=1)]


async def _run(fleet: Fleet, campaign: Campaign, progress: Progress) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Registers and triggers the job through the API, and follows the run to its end."""
    token = fleet.endpoints.token_file.read_text()
    key = uuid.uuid4().hex
    with RestClient(fleet.endpoints.http, token) as api:
        run = await _patiently(partial(asyncio.to_thread, _order, api, campaign, key))
        path = f"/runs/{run['id']}"
        while True:
            shards = (await _patiently(partial(asyncio.to_thread, api.get, f"{path}/shards")))["shards"]
            progress.published = sum(shard["published"] for shard in shards)
            progress.look()
            if run["ended_at"] is not None:
                break
            await asyncio.sleep(POLL_SECONDS)
            run = await _patiently(partial(asyncio.to_thread, api.get, path))
    if run["state"] != "succeeded":
        raise RunFailed(run_id=run["id"], state=run["state"], reason=_reason(run, shards))
    return run, shards


def _order(api: RestClient, campaign: Campaign, key: str) -> dict[str, Any]:
    job = {
        "name": JOB,
        "group": "promotion",
        "handler": "promotion.push",
        "trigger": {"manual": True},
        "shards": campaign.shards,
        "params": {
            "promotion_id": campaign.promotion_id,
            "table": campaign.audience.table,
            "id_column": campaign.audience.id_column,
            "where": campaign.audience.where,
        },
        "retry": {"attempts": 3, "initial": "1s"},
    }
    if JOB in {known["name"] for known in api.get("/jobs")["jobs"]}:
        api.put(f"/jobs/{JOB}", job)
    else:
        api.post("/jobs", job)
    run: dict[str, Any] = api.post(f"/jobs/{JOB}/trigger", {}, headers={"Idempotency-Key": key})
    return run


def _reason(run: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> str:
    messages = [shard["error_message"] for shard in shards if shard.get("error_message")]
    return str(messages[0] if messages else run.get("reason") or "no reason was given")


async def _delivered(fleet: Fleet, progress: Progress) -> float:
    """Waits until the consumers have committed everything, and returns when that was, in seconds since the epoch."""
    async with GroupClient(fleet.endpoints.broker) as groups:
        while True:
            progress.look()
            state = await _patiently(lambda: groups.get(delivery.GROUP))
            if _is_read(state, progress.published):
                return time.time()
            await asyncio.sleep(POLL_SECONDS)


def _is_read(state: GroupState, published: int) -> bool:
    queues = [queue for queue in state.queues if queue.topic == TOPIC]
    return state.lag == 0 and sum(queue.end for queue in queues) >= published


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Asks again while a daemon is away; the supervisor ends the demo when it stays away."""
    while True:
        try:
            return await call()
        except (*PASSING, UnknownGroup):
            await asyncio.sleep(POLL_SECONDS)


async def _watch_memory(daemons: Sequence[Daemon], peaks: dict[str, float]) -> None:
    while True:
        _look_at_memory(daemons, peaks)
        await asyncio.sleep(POLL_SECONDS)


def _look_at_memory(daemons: Sequence[Daemon], peaks: dict[str, float]) -> None:
    for daemon in daemons:
        kind = daemon.command.kind
        if daemon.pid is not None and kind != "consumer":
            peaks[kind] = max(peaks.get(kind, 0.0), round(peak_rss_mb(daemon.pid), 1))


def _report(campaign: Campaign, course: Course, records: Sequence[Path], memory: dict[str, float]) -> Report:
    present = [record for record in records if record.exists()]
    verdict = check.compare(campaign.audience.ids(), present, campaign.data / "check.db")
    if campaign.deliveries is not None:
        _merge(present, campaign.deliveries)
    began = datetime.fromisoformat(course.run["started_at"]).timestamp()
    ended = max((record.stat().st_mtime for record in present if record.stat().st_size), default=course.read_at)
    deliver_seconds = max(ended - began, 0.001)
    return Report(
        audience=campaign.audience.size,
        published=sum(shard["published"] for shard in course.shards),
        delivered=verdict.delivered,
        missing=verdict.missing,
        duplicates=verdict.duplicates,
        unexpected=verdict.unexpected,
        shards=len(course.shards),
        executors=campaign.executors,
        publish_seconds=round(datetime.fromisoformat(course.run["ended_at"]).timestamp() - began, 3),
        deliver_seconds=round(deliver_seconds, 3),
        messages_per_second=round(verdict.delivered / deliver_seconds),
        peak_rss_mb=memory,
        run_id=course.run["id"],
        kills=None if course.kills is None else dict(course.kills),
    )


def _merge(records: Sequence[Path], target: Path) -> None:
    with target.open("wb") as merged:
        for record in records:
            with record.open("rb") as lines:
                shutil.copyfileobj(lines, merged, 1 << 20)
