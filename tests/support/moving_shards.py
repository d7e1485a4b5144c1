"""Shards that move: an admin, a broker and executors in real processes, each executor behind wires that a test cuts, an
app that copies a table to a topic, and what became of each row."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from anyio.from_thread import BlockingPortal, start_blocking_portal

from broker.client.consumer import Consumer
from broker.client.operating.topics import TopicClient
from executor.sharding.hash import shard_of
from shardcast.testing.proxy import Proxy
from tests.support.admin_processes import Installation, Process, running_admins
from tests.support.broker_process import free_port
from tests.support.demo_process import wait_for

Row = tuple[int, str, int]

LEASE_SECONDS = 2.0
SHARDS = 8
ENDED = ("succeeded", "failed", "cancelled", "skipped")
APP = "copying:app"
SOURCE = """
import json
import os
import time

import sqlalchemy as sa

import executor.daemon
from broker.client.message import Message
from executor.app import Executor

app = Executor("moving")
engine = sa.create_engine(os.environ["TABLE_URL"])
marks = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


class Clock:
    # One that is slow tells nobody in time that a lease has lapsed: then the others have to fence this process.
    def monotonic(self):
        return time.monotonic() / float(os.environ["SLOWER"])


executor.daemon.time = Clock()


def mark(context):
    found = {"run": context.run_id, "shard": context.shard.index, "executor": os.environ["SHARDCAST_NAME"]}
    os.write(marks, json.dumps({**found, "at": time.time()}).encode() + b"\\n")


@app.job("copy")
def copy(context, params: dict[str, object]):
    goes_on = False
    with context.publisher(params["topic"]) as publisher:
        for number, users in enumerate(context.scan(engine, "users", batch=params["batch"], **params["scan"])):
            messages = [
                Message(json.dumps([context.shard.index, *user]).encode(), key=str(user.id)) for user in users
            ]
            publisher.publish(messages, checkpoint=users.cursor)
            if number % params["flush_every"] == 0:
                publisher.flush()
                goes_on = goes_on or mark(context) or True
    mark(context)
"""


@dataclass
class Mover:
    """An executor, and its wires to the admin and to the broker. Its clock may be slow."""

    process: Process
    portal: BlockingPortal
    to_admin: Proxy
    to_broker: Proxy
    is_slow: bool

    @property
    def name(self) -> str:
        return self.process.directory.name

    def cut(self, *wires: Proxy) -> None:
        for wire in wires:
            self.portal.call(wire.cut)

    def silence(self, *wires: Proxy) -> None:
        """What is under way comes late."""
        for wire in wires:
            self.portal.call(wire.freeze)

    def restore(self) -> None:
        for wire in (self.to_admin, self.to_broker):
            self.portal.call(wire.restore)

    @property
    def missed_broker(self) -> int:
        """How often it found the broker gone so far."""
        return len(self.logged("open_retry")) + len(self.logged("publish_retry"))

    def logged(self, action: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.process.said().splitlines() if f'"action": "{action}"' in line]


@dataclass
class Fleet:
    """One table; runs copy it, each to a topic of its own."""

    installation: Installation
    broker: str
    marks: Path
    movers: list[Mover]
    table: Sequence[Row]
    portal: BlockingPortal
    _runs: int = field(default=0)

    def begin(self, params: Mapping[str, object], queues: int) -> "Copying":
        self._runs += 1
        name = f"copy-{self._runs}"
        self.portal.call(_create_topic, self.broker, name, queues)
        with self.installation.api() as api:
            job = {"name": name, "group": "moving", "handler": "copy", "shards": SHARDS}
            api.post("/jobs", {**job, "params": {**params, "topic": name}})
            return Copying(self, name, params, str(api.post(f"/jobs/{name}/trigger", {})["id"]))


@dataclass(frozen=True)
class Copying:
    """One run."""

    fleet: Fleet
    topic: str
    params: Mapping[str, Any]
    run_id: str

    def shards(self) -> list[dict[str, Any]]:
        with self.fleet.installation.api() as api:
            return list(api.get(f"/runs/{self.run_id}/shards")["shards"])

    def held(self, mover: Mover) -> list[dict[str, Any]]:
        mine = [shard for shard in self.shards() if shard["holder"] == mover.name]
        return [shard for shard in mine if shard["state"] in ("assigned", "running")]

    def state(self) -> str:
        with self.fleet.installation.api() as api:
            return str(api.get(f"/runs/{self.run_id}")["state"])

    @property
    def is_ended(self) -> bool:
        return self.state() in ENDED

    def marks(self) -> list[dict[str, Any]]:
        """When shards went on, and with whom."""
        lines = self.fleet.marks.read_text().splitlines() if self.fleet.marks.exists() else []
        return [mark for mark in map(json.loads, lines) if mark["run"] == self.run_id]

    def wait_until_published(self, more: int) -> None:
        """So much more than now, or until it has ended."""
        begun_at = sum(shard["published"] for shard in self.shards())

        def look() -> bool | None:
            shards = self.shards()
            is_over = all(shard["state"] in ENDED for shard in shards)
            return is_over or sum(shard["published"] for shard in shards) >= begun_at + more or None

        wait_for(f"{more} messages more", look)

    def check(self) -> None:
        """Fails unless the topic holds each row of the table exactly once, with the shard that owns it, in order."""
        wait_for("the end of the run", lambda: self.is_ended or None)
        unsuccessful = [shard for shard in self.shards() if shard["state"] != "succeeded"]
        assert not unsuccessful, [(shard["index"], shard["state"], shard["error_message"]) for shard in unsuccessful]
        queues = self.fleet.portal.call(_read, self.fleet.broker, self.topic)
        found = sorted((row, shard) for queue in queues for shard, row in queue)
        assert [row for row, _ in found] == self.fleet.table, self._difference(found)
        shards = [shard for _, shard in found]
        if self.params["scan"].get("strategy", "hash") == "hash":
            assert shards == [shard_of(row[0], SHARDS) for row, _ in found]
        else:  # each has its part of the key's order
            assert [shard for shard, _ in groupby(shards)] == [*range(SHARDS)]
        for queue in queues:
            for index in range(SHARDS):
                ids = [row[0] for shard, row in queue if shard == index]
                assert ids == sorted(ids), f"{self.topic}: shard {index} is out of order"

    def _difference(self, found: list[tuple[Row, int]]) -> str:
        ids = [row[0] for row, _ in found]
        missing = {row[0] for row in self.fleet.table} - set(ids)
        doubled = len(ids) - len(set(ids))
        return f"{self.topic}: {len(missing)} missing as {sorted(missing)[:5]}, {doubled} doubled, or other content"


async def _create_topic(broker: str, name: str, queues: int) -> None:
    async with TopicClient(broker) as topics:
        await topics.create(name, queues)


async def _read(broker: str, topic: str) -> list[list[tuple[int, Row]]]:
    """All that the topic holds, by queue and in its order: whose shard published it, and the row."""
    queues: dict[int, list[tuple[int, Row]]] = defaultdict(list)
    async with TopicClient(broker) as topics:
        stored = sum(queue.end for queue in (await topics.get(topic)).queues)
    async with Consumer(broker, f"check-{topic}", [topic]) as consumer, asyncio.timeout(60):
        while sum(map(len, queues.values())) < stored:
            batch = await anext(consumer)
            for message in batch:
                shard, *row = json.loads(message.body)
                assert message.key == str(row[0])
                queues[message.queue].append((shard, (row[0], row[1], row[2])))
            await consumer.commit(batch)
    return list(queues.values())


def make_table(url: str, rows: int, chance: random.Random) -> list[Row]:
    """Users with gaps between their ids."""
    users = [
        (number, f"user {chance.getrandbits(32):x}", chance.randrange(1000))
        for number in sorted(chance.sample(range(1, 10 * rows), rows))
    ]
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    columns = (sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(40)))
    table = sa.Table("users", sa.MetaData(), *columns, sa.Column("points", sa.Integer))
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [dict(zip(("id", "name", "points"), user, strict=True)) for user in users])
    return users


@contextmanager
def running_fleet(directory: Path, table_url: str, table: Sequence[Row], slow: Sequence[bool]) -> Iterator[Fleet]:
    """As many executors as `slow` has entries; for each, whether its clock is."""
    broker = Process(["broker", "--data", "data", "--port", str(free_port())], {}, directory / "broker")
    address = f"127.0.0.1:{broker.command[-1]}"
    broker.start()
    url, marks = f"sqlite:///{directory / 'admin.db'}", directory / "marks.jsonl"
    told = {"SHARDCAST_LEASE_SECONDS": str(LEASE_SECONDS), "SHARDCAST_BROKER": address}
    with ExitStack() as stack:
        stack.callback(broker.kill)
        installation = stack.enter_context(running_admins(directory, url, 1, **told))
        wait_for("the broker", lambda: '"ready"' in broker.said() or None)
        portal = stack.enter_context(start_blocking_portal())
        fleet = Fleet(installation, address, marks, [], table, portal)
        for is_slow in slow:
            wires = [
                stack.enter_context(portal.wrap_async_context_manager(Proxy(target)))
                for target in (installation.admins[0].grpc, address)
            ]
            environment = {
                "SHARDCAST_ADMIN": wires[0].endpoint,
                "SHARDCAST_BROKER": wires[1].endpoint,
                "SHARDCAST_SLOTS": str(2 * SHARDS),
                "SHARDCAST_RELEASE_SECONDS": "0.2",
                "TABLE_URL": table_url,
                "MARKS": str(marks),
                "SLOWER": "20" if is_slow else "1",
            }
            process = installation.start_executor(APP, SOURCE, **environment)
            fleet.movers.append(Mover(process, portal, wires[0], wires[1], is_slow))
        for mover in fleet.movers:
            wait_for(f"the link of {mover.name}", lambda mover=mover: mover.logged("linked") or None)
        yield fleet
