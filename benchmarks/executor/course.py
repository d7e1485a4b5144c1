"""One run on real daemons, from the trigger to its end: how long, how exact, and what each process needed."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.executor.app import APP, DATABASE_VARIABLE, GROUP, HANDLER, TOPIC, Order
from benchmarks.executor.table import Table
from benchmarks.processes import cpu_seconds
from broker.client import TopicClient
from shardcast.demo.memory import peak_rss_mb
from shardcast.rest import RestClient
from shardcast.up import Fleet, Plan, running

JOB = "bench-rows"
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured."""

    table: Table
    order: Order
    shards: int
    executors: int


@dataclass(frozen=True, slots=True)
class Course:
    """What came of it: `seconds` from the first start of a shard to the run's end by the admin's times, the rows of
    each shard, CPU seconds by kind of process, and each executor's largest resident size."""

    seconds: float
    rows: Sequence[int]
    cpu: Mapping[str, float]
    peak_mb: Sequence[float]

    @property
    def rate(self) -> float:
        """Rows per second."""
        return sum(self.rows) / self.seconds

    @property
    def spread(self) -> float:
        """How many rows the largest shard has more than the smallest, as a share of the mean."""
        return (max(self.rows) - min(self.rows)) * len(self.rows) / sum(self.rows)


async def hold(trial: Trial, directory: Path) -> Course:
    """Raises SystemExit where a row was not published exactly once, and what starting daemons raises."""
    plan = Plan(
        data=directory,
        executors=trial.executors,
        app=APP,
        http_port=0,
        grpc_port=0,
        broker_port=0,
        environment={DATABASE_VARIABLE: trial.table.url},
    )
    async with running(plan) as fleet:
        before = _cpu(fleet, trial.table)
        run, shards = await asyncio.to_thread(_run, fleet, trial)
        after = _cpu(fleet, trial.table)
        if run["state"] != "succeeded":
            raise SystemExit(f"the run {run['state']}: {shards}")
        async with TopicClient(fleet.endpoints.broker) as topics:
            kept = (await topics.get(TOPIC)).messages
        peaks = [peak_rss_mb(pid) for pid in _pids(fleet)["executors"]]
    rows, published = [shard["rows"] for shard in shards], sum(shard["published"] for shard in shards)
    if not sum(rows) == published == kept == trial.table.rows:
        told = f"{trial.table.rows} rows, {sum(rows)} read, {published} published, {kept} in the topic"
        raise SystemExit(f"the run was not exact: {told}: {shards}")
    seconds = _at(run["ended_at"]) - min(_at(shard["started_at"]) for shard in shards)
    return Course(seconds, rows, {kind: after[kind] - before[kind] for kind in after}, peaks)


def _run(fleet: Fleet, trial: Trial) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run when it has ended, and its shards, as REST tells them."""
    job = {
        "name": JOB,
        "group": GROUP,
        "handler": HANDLER,
        "trigger": {"manual": True},
        "shards": trial.shards,
        "params": trial.order.model_dump(),
    }
    with RestClient(fleet.endpoints.http, fleet.endpoints.token_file.read_text()) as api:
        api.post("/jobs", job)
        run = api.post(f"/jobs/{JOB}/trigger", {})
        while run["ended_at"] is None:
            time.sleep(POLL_SECONDS)
            run = api.get(f"/runs/{run['id']}")
        return run, api.get(f"/runs/{run['id']}/shards")["shards"]


def _cpu(fleet: Fleet, table: Table) -> dict[str, float]:
    kinds = {**_pids(fleet), "database": table.pids()}
    return {kind: cpu_seconds(pids) for kind, pids in kinds.items() if pids}


def _pids(fleet: Fleet) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"executors": [], "broker": [], "admin": []}
    for daemon in fleet.daemons:
        if daemon.pid is not None:
            found["executors" if daemon.command.kind == "executor" else daemon.command.kind].append(daemon.pid)
    return found


def _at(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
