"""Jobs that are due every second, a handler that writes down each of its calls, and the count of both."""

import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from protos.errors import ShardcastError
from shardcast.rest import RestClient
from tests.support.admin_processes import Installation
from tests.support.demo_process import wait_for

APP = "recording:app"
SOURCE = """
import json
import os

from executor.app import Executor

app = Executor("proof")
calls = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


@app.job("record")
async def record(context):
    call = {"job": context.job, "run_id": context.run_id, "attempt": context.attempt, "pid": os.getpid()}
    os.write(calls, json.dumps(call).encode() + b"\\n")
"""
SECOND = timedelta(seconds=1)
PAGE_SIZE = 1000
ENDED = ("succeeded", "failed", "cancelled", "skipped")


@dataclass(frozen=True)
class Count:
    """What came of a proof: runs, calls, and those calls that were made because a lease had been lost."""

    runs: int
    calls: int
    repeated: int


class Fires:
    """Makes the jobs, ends them once all is calm, and counts."""

    def __init__(self, installation: Installation, calls: Path, jobs: int) -> None:
        self._installation = installation
        self._calls = calls
        self._names = [f"every-second-{number}" for number in range(jobs)]
        self._begun: dict[str, datetime] = {}

    def begin(self) -> None:
        with self._installation.api() as api:
            for name in self._names:
                job = {
                    "name": name,
                    "group": "proof",
                    "handler": "record",
                    "trigger": {"cron": "* * * * * ?"},
                    "overlap": "allow",
                    "misfire": "fire_all",
                }
                self._begun[name] = datetime.fromisoformat(api.post("/jobs", job)["next_fire_at"])

    def end(self, seconds: float) -> None:
        """Lets the admins catch up with the time, stops the jobs, lets every run end."""
        with self._installation.api() as api:
            calm_at = time.time()
            wait_for("a run of each job now", lambda: self._are_up_to(api, calm_at), seconds)
            for name in self._names:
                api.post(f"/jobs/{name}/pause")
            wait_for("the end of every run", lambda: _are_ended(api), seconds)

    def check(self) -> Count:
        """Fails unless each fire time of each job has exactly one run, and each run was carried out."""
        with self._installation.api() as api:
            runs = api.get_all("/runs", "runs", page_size=PAGE_SIZE)["runs"]
            calls = Counter(json.loads(line)["run_id"] for line in self._calls.read_text().splitlines())
            for name in self._names:
                fires = [datetime.fromisoformat(run["fire_time"]) for run in runs if run["job"] == name]
                check_fires(name, fires, self._begun[name])
            unsuccessful = [run for run in runs if run["state"] != "succeeded"]
            assert not unsuccessful, unsuccessful[:5]
            ids = {run["id"] for run in runs}
            assert set(calls) == ids, f"never called: {sorted(ids - set(calls))[:5]}"
            accepted = accepted_terms(executor.said() for executor in self._installation.executors)
            assert not accepted.keys() - ids, f"acknowledged and lost: {sorted(accepted.keys() - ids)[:5]}"
            repeated = [run_id for run_id, times in calls.items() if times > 1]
            for run_id in repeated:
                (shard,) = api.get(f"/runs/{run_id}/shards")["shards"]
                assert calls[run_id] <= shard["term"], f"run {run_id}: {calls[run_id]} calls in {shard}"
                assert accepted[run_id] <= {shard["term"]}, f"run {run_id}: {accepted[run_id]} acknowledged, {shard}"
        return Count(len(runs), calls.total(), len(repeated))

    def _are_up_to(self, api: RestClient, at: float) -> bool | None:
        with suppress(ShardcastError):
            newest = [api.get("/runs", job=name, page_size=1)["runs"] for name in self._names]
            return (
                all(runs and datetime.fromisoformat(runs[0]["fire_time"]).timestamp() >= at for runs in newest) or None
            )
        return None


def accepted_terms(logs: Iterable[str]) -> Mapping[str, set[int]]:
    """By run: of which terms an admin has acknowledged the outcome, as executors wrote it down. At most one can be."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for line in itertools.chain.from_iterable(log.splitlines() for log in logs):
        if '"VERDICT_ACCEPTED"' in line:
            run_id, _, shard_and_term = json.loads(line)["attempt"].partition("/")
            found[run_id].add(int(shard_and_term.partition("#")[2]))
    doubled = {run_id: terms for run_id, terms in found.items() if len(terms) > 1}
    assert not doubled, f"acknowledged twice: {doubled}"
    return found


def check_fires(job: str, fires: Sequence[datetime], first: datetime) -> None:
    """Fails unless these are all seconds from the first on, each once."""
    ordered = sorted(fires)
    doubled = [fire for fire, following in itertools.pairwise(ordered) if fire == following]
    assert not doubled, f"{job}: two runs for {doubled[:5]}"
    missing = [fire + SECOND for fire, following in itertools.pairwise(ordered) if following - fire != SECOND]
    assert not missing, f"{job}: no run for {missing[:5]}"
    assert ordered, f"{job}: no run at all"
    assert ordered[0] == first, f"{job}: began at {ordered[0]}, not {first}"


def _are_ended(api: RestClient) -> bool | None:
    with suppress(ShardcastError):
        return not any(api.get("/runs", state=state, page_size=1)["runs"] for state in ("waiting", "running")) or None
    return None
