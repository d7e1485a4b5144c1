"""An admin dies with the link of an executor that has shards running: the others take its work over within a lease."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin_processes import AdminProcess, Installation, Process, running_admins
from tests.support.demo_process import wait_for

LEASE_SECONDS = 3.0
SHARDS = 4
APP = "holding:app"
SOURCE = """
import asyncio
import json
import os
import time
from pathlib import Path

from executor.app import Executor

app = Executor("takeover")
marks = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
until = Path(os.environ["UNTIL"])


def mark(what, context):
    line = {"what": what, "shard": context.shard.index, "executor": os.environ["SHARDCAST_NAME"], "at": time.time()}
    os.write(marks, json.dumps(line).encode() + b"\\n")


@app.job("hold")
async def hold(context):
    mark("begun", context)
    while not until.exists():
        await asyncio.sleep(0.05)
    mark("ended", context)
"""


@dataclass
class Holding:
    """Executors that hold the shards of one run until they are let go."""

    installation: Installation
    directory: Path

    @property
    def executors(self) -> Sequence[Process]:
        return self.installation.executors

    def start_executor(self, *admins: AdminProcess) -> Process:
        """One that knows these alone."""
        told = {"SHARDCAST_ADMIN": ",".join(admin.grpc for admin in admins)} if admins else {}
        marks, until = self.directory / "marks.jsonl", self.directory / "until"
        environment = {"MARKS": str(marks), "UNTIL": str(until), "SHARDCAST_SLOTS": str(SHARDS), **told}
        return self.installation.start_executor(APP, SOURCE, **environment)

    def let_go(self) -> None:
        (self.directory / "until").touch()

    def marks(self, what: str, executor: Process | None = None) -> list[dict[str, Any]]:
        path = self.directory / "marks.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        wanted = None if executor is None else executor.directory.name
        return [mark for mark in found if mark["what"] == what and wanted in (None, mark["executor"])]

    def trigger(self, index: int) -> str:
        job = {"name": "hold", "group": "takeover", "handler": "hold", "shards": SHARDS}
        with self.installation.api(index) as api:
            api.post("/jobs", job)
            return str(api.post("/jobs/hold/trigger", {})["id"])

    def shards(self, run_id: str, index: int) -> list[dict[str, Any]]:
        with self.installation.api(index) as api:
            return list(api.get(f"/runs/{run_id}/shards")["shards"])

    def are_done(self, run_id: str, index: int) -> bool | None:
        return all(shard["state"] == "succeeded" for shard in self.shards(run_id, index)) or None


@contextmanager
def holding(directory: Path, url: str) -> Iterator[Holding]:
    with running_admins(directory, url, 2, SHARDCAST_LEASE_SECONDS=str(LEASE_SECONDS)) as installation:
        yield Holding(installation, directory)


def links(executor: Process) -> list[dict[str, Any]]:
    """As the executor wrote down that it had them."""
    lines = [line for line in executor.said().splitlines() if '"action": "linked"' in line]
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_executor_goes_on_with_another_admin(shared_database_url: str, tmp_path: Path) -> None:
    with holding(tmp_path, shared_database_url) as held:
        executor = held.start_executor()
        wait_for("a link", lambda: links(executor) or None)
        admins = held.installation.admins
        dying = next(index for index, admin in enumerate(admins) if admin.grpc == links(executor)[0]["admin"])
        living = 1 - dying
        run_id = held.trigger(living)
        wait_for("the shards", lambda: len(held.marks("begun")) == SHARDS or None)
        killed_at = time.monotonic()
        admins[dying].process.kill()
        wait_for("another link", lambda: len(links(executor)) > 1 or None, LEASE_SECONDS)
        took = time.monotonic() - killed_at
        held.let_go()
        wait_for("the end", lambda: held.are_done(run_id, living))
        assert [shard["term"] for shard in held.shards(run_id, living)] == [1] * SHARDS, "nothing was lost"
        assert len(held.marks("begun")) == SHARDS
    print(f"went on behind {took:.2f} s")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.proof
def test_shards_of_an_executor_that_dies_with_its_admin_are_assigned_within_a_lease(
    shared_database_url: str, tmp_path: Path
) -> None:
    with holding(tmp_path, shared_database_url) as held:
        dying, living = held.installation.admins
        lost = held.start_executor(dying)
        wait_for("a link", lambda: links(lost) or None)
        run_id = held.trigger(1)
        wait_for("the shards", lambda: len(held.marks("begun", lost)) == SHARDS or None)
        heir = held.start_executor(living)
        wait_for("a link", lambda: links(heir) or None)
        killed_at = time.time()
        lost.kill()
        dying.process.kill()
        wait_for("the shards elsewhere", lambda: len(held.marks("begun", heir)) == SHARDS or None)
        took = [mark["at"] - killed_at for mark in held.marks("begun", heir)]
        assert max(took) < LEASE_SECONDS + 1.0
        held.let_go()
        wait_for("the end", lambda: held.are_done(run_id, 1))
        assert [shard["term"] for shard in held.shards(run_id, 1)] == [2] * SHARDS
    print(f"were assigned behind {min(took):.2f} to {max(took):.2f} s")
