"""Admin, broker and executors of a test server, in one event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from admin.app import Admin
from admin.app import build as build_admin
from admin.settings import AdminSettings
from broker.client import GroupClient, TopicClient
from broker.client.message import ReceivedMessage
from broker.client.operating.looking import LookClient
from broker.daemon import House
from broker.daemon import build as build_broker
from broker.errors import UnknownGroup, UnknownTopic
from broker.testing import light_settings
from protos.admin.v1 import run_pb2
from protos.admin.v1.run_pb2_grpc import RunServiceStub
from protos.channel import bearer, dial, renamed
from shardcast.testing.clock import JumpingClock
from shardcast.testing.executors import ChildExecutor, LocalExecutor, Place

READ_MESSAGES = 1_000

AnyExecutor = LocalExecutor | ChildExecutor


@dataclass(slots=True)
class World:
    """What runs. Belongs to one event loop."""

    data: Path
    clock: JumpingClock
    admin: Admin
    broker: House
    executors: list[AnyExecutor] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Where executors find everything."""
        token = (self.data / "admin" / "executor.token").read_text()
        return Place(self.admin.endpoints["grpc"], self.broker.endpoints["grpc"], token, self.data / "executors")

    @property
    def token(self) -> str:
        """An administrator's."""
        return (self.data / "admin" / "admin.token").read_text()

    async def start(self, executor: AnyExecutor) -> None:
        """Returns once the admin has let it in."""
        await executor.start()
        self.executors.append(executor)

    async def stop(self, executor: AnyExecutor) -> None:
        """Drains it; one that was stopped or killed before is as well."""
        if executor in self.executors:
            self.executors.remove(executor)
            await executor.stop()

    async def kill(self, executor: AnyExecutor) -> None:
        if executor in self.executors:
            self.executors.remove(executor)
            await executor.kill()

    async def set_clock(self, instant: datetime) -> None:
        """What is due by then is being served when this returns."""
        self.admin.clock_was_set(self.clock.set_to(instant))
        await self.broker.clock_was_set()

    async def watch(self, run_id: str, seconds: float) -> bool:
        """Returns when the run has ended, or (False) when the time is over."""
        address = self.admin.endpoints["grpc"]
        request = run_pb2.RunServiceWatchRequest(id=run_id)
        async with dial(address) as channel:
            try:
                async with asyncio.timeout(seconds):
                    with renamed(address):
                        async for _ in RunServiceStub(channel).Watch(request, metadata=bearer(self.token)):
                            pass
            except TimeoutError:
                return False
        return True

    async def messages(self, topic: str) -> Sequence[ReceivedMessage]:
        """By queue and offset; none of a topic that is not there."""
        endpoint = self.broker.endpoints["grpc"]
        async with TopicClient(endpoint) as topics, LookClient(endpoint) as looks:
            try:
                queues = (await topics.get(topic)).queues
            except UnknownTopic:
                return []
            found: list[ReceivedMessage] = []
            for number, held in enumerate(queues):
                offset = held.lowest
                while offset < held.end and (batch := await looks.read(topic, number, offset, READ_MESSAGES)):
                    found += batch
                    offset = batch[-1].offset + 1
        return found

    async def has_read(self, group: str) -> bool:
        """Whether the group has done with all that there is."""
        async with GroupClient(self.broker.endpoints["grpc"]) as groups:
            try:
                queues = (await groups.get(group)).queues
            except UnknownGroup:  # nobody has joined yet
                return False
        return bool(queues) and not any(queue.lag for queue in queues)


@asynccontextmanager
async def running_world(data: Path, clock: JumpingClock, lease: timedelta) -> AsyncIterator[World]:
    """Until the block ends; then executors are drained first. What the environment says plays no part."""
    async with build_broker(light_settings(data / "broker"), clock=clock.milliseconds) as broker:
        admin_settings = AdminSettings.model_construct(
            data=data / "admin",
            http_port=0,
            grpc_port=0,
            broker=broker.endpoints["grpc"],
            lease_seconds=lease.total_seconds(),
            drain_seconds=1.0,
        )
        async with build_admin(admin_settings, clock) as admin, asyncio.TaskGroup() as group:
            group.create_task(broker.run())
            group.create_task(admin.run())
            world = World(data, clock, admin, broker)
            try:
                yield world
            finally:
                stopped = await asyncio.gather(*map(world.stop, list(world.executors)), return_exceptions=True)
                admin.stop()
                broker.stop()
    if failures := [each for each in stopped if each is not None]:
        raise failures[0]
