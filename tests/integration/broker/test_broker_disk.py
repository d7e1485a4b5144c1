"""The broker on a disk that is nearly full or gives back wrong bytes, and under each durability policy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from broker.daemon import build
from broker.engine.opening import Checkpointer
from broker.errors import LogDamaged, RecordDamaged
from broker.log.commit_log import Durability
from broker.log.disk import Disk
from broker.settings import BrokerSettings
from protos.broker.v1 import broker_pb2 as pb
from protos.broker.v1.broker_pb2_grpc import BrokerServiceStub
from protos.channel import dial, renamed
from tests.support.broker_engine import opening, publishing, running_engine

pytestmark = pytest.mark.anyio

RESERVE = 1_000


class SmallDisk(Disk):
    """Has as many bytes left as it is told."""

    left = RESERVE

    def free(self, path: Path) -> int:
        return self.left


@asynccontextmanager
async def connected(data: Path, disk: Disk | None = None, **settings: object) -> AsyncIterator[BrokerServiceStub]:
    given = BrokerSettings.from_env(**{"data": data, "port": 0, **settings})
    async with build(given, disk=disk) as house, asyncio.TaskGroup() as group:
        group.create_task(house.run())
        endpoint = house.endpoints["grpc"]
        async with dial(endpoint) as channel:
            with renamed(endpoint):
                yield BrokerServiceStub(channel)
        house.stop()


async def open_producer(stub: BrokerServiceStub) -> None:
    await stub.OpenProducer(pb.OpenProducerRequest(producer_id="run/r/0", term=1, holder_id="h"), timeout=10)


async def publish(stub: BrokerServiceStub, sequence: int, *bodies: bytes) -> pb.PublishResponse:
    batch = pb.TopicBatch(topic="orders", bodies=bodies, keys=["k"] * len(bodies))
    request = pb.PublishRequest(producer_id="run/r/0", term=1, holder_id="h", sequence=sequence, batches=[batch])
    (answer,) = [answer async for answer in stub.Publish(iter([request]), timeout=10)]
    return answer


async def fetch(stub: BrokerServiceStub, stored: pb.PublishResponse, offset: int = 0) -> list[bytes]:
    queue = stored.published.ranges[0].queue
    return [*(await stub.Fetch(pb.FetchRequest(topic="orders", queue=queue, offset=offset), timeout=10)).bodies]


async def test_a_disk_that_is_nearly_full_takes_commits_and_gives_messages_but_takes_none(tmp_path: Path) -> None:
    async with connected(tmp_path, SmallDisk(), disk_reserve_bytes=RESERVE) as stub:
        await open_producer(stub)
        stored = await publish(stub, 1, b"a")
    disk = SmallDisk()
    disk.left = RESERVE - 1
    async with connected(tmp_path, disk, disk_reserve_bytes=RESERVE) as stub:
        assert (await publish(stub, 1, b"a")).published.duplicate  # who lost the answer hears that it is stored
        refusal = (await publish(stub, 2, b"b")).refusal
        assert (refusal.code, refusal.fields["free"], refusal.fields["reserve"]) == ("disk_full", "999", "1000")
        assert await fetch(stub, stored) == [b"a"]
        beat = pb.BeatGroupRequest(group="g", member_id="m", topics=["orders"], session_timeout_ms=60_000)
        queue = stored.published.ranges[0].queue
        (claim,) = [at.claim for at in (await stub.BeatGroup(beat, timeout=10)).owned if at.claim.queue == queue]
        commits = [pb.OffsetCommit(claim=claim, offset=1)]
        answer = await stub.Commit(pb.CommitRequest(group="g", member_id="m", commits=commits), timeout=10)
        assert answer.committed[0].offset == 1


async def test_a_damaged_record_is_refused_with_its_place_and_the_rest_is_served(tmp_path: Path) -> None:
    async with connected(tmp_path) as stub:
        await open_producer(stub)
        stored = await publish(stub, 1, b"first", b"second", b"third")
        (segment,) = (tmp_path / "log").glob("*.log")
        at = segment.read_bytes().index(b"second")
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(b"S")
        assert await fetch(stub, stored) == [b"first"]
        assert await fetch(stub, stored, 2) == [b"third"]
        with pytest.raises(RecordDamaged) as refused:
            await asyncio.create_task(_fetch_renamed(stub, stored))
        assert (refused.value.fields["offset"], refused.value.fields["path"]) == (1, str(segment))


async def _fetch_renamed(stub: BrokerServiceStub, stored: pb.PublishResponse) -> None:
    with renamed("broker"):
        await fetch(stub, stored, 1)


async def test_damage_that_nobody_reads_is_found_after_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_engine(tmp_path) as (engine, directory):  # of small segments
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence in range(1, 20):
            engine.commit([publishing("run/a/0", 1, "h", sequence, b"a" * 60)])
        Checkpointer(engine, directory, Disk(), 1, pytest.fail).close()
        damaged = engine.log.segments[1].path
    with damaged.open("r+b") as file:
        file.seek(60)
        file.write(b"\xff")
    told = SimpleQueue[LogDamaged]()
    monkeypatch.setattr("broker.daemon._report_damage", told.put)
    async with connected(tmp_path):
        damage = await asyncio.to_thread(told.get, timeout=10)
    assert (damage.fields["path"], damage.code) == (damaged, "log_damaged")


class CountingDisk(Disk):
    """Counts syncs, and says when the one that is waited for is done."""

    def __init__(self) -> None:
        self.syncs = 0
        self.synced = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.syncs += 1
        self._loop.call_soon_threadsafe(self.synced.set)


@pytest.mark.parametrize("policy", Durability)
async def test_what_was_acknowledged_is_there_after_a_stop_under_each_policy(
    tmp_path: Path, policy: Durability
) -> None:
    disk = CountingDisk()
    async with connected(tmp_path, disk, durability=policy, sync_interval_ms=1) as stub:
        await open_producer(stub)
        disk.syncs = 0
        disk.synced.clear()
        stored = await publish(stub, 1, b"a")
        if policy is Durability.INTERVAL:
            await asyncio.wait_for(disk.synced.wait(), 10)
        assert (disk.syncs == 0) == (policy is Durability.OS)
    async with connected(tmp_path) as stub:
        assert await fetch(stub, stored) == [b"a"]
        assert (await publish(stub, 1, b"a")).published.duplicate
