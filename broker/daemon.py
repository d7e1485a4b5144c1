"""The broker's daemon: the one file that names every concrete class."""

import asyncio
import hmac
import os
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from broker.broker import Broker
from broker.delivery.waiters import Waiters
from broker.engine.directory import DataDirectory, open_directory
from broker.engine.engine import Clock
from broker.engine.opening import Checkpointer, Die, Limits, open_engine
from broker.errors import BrokerStopping, LogDamaged
from broker.face.parts import Parts
from broker.face.upkeep.retention import Keep, Retainer
from broker.groups.awake import TICK_SECONDS, AwakeTime
from broker.log.commit_log import Durability
from broker.log.disk import Disk
from broker.log.upkeep.background import Background
from broker.log.upkeep.scrubber import Scrubber
from broker.log.upkeep.space import Space
from broker.log.upkeep.syncer import Syncer
from broker.queues.topics import Topics
from broker.rpc.bulk import BulkService
from broker.rpc.limits import ClientLimits
from broker.settings import BrokerSettings
from broker.writer import Writer
from protos.broker.v1 import broker_pb2_grpc
from protos.errors import Unauthenticated
from protos.server import Authorize, Listening, Service, serve

log = structlog.get_logger(__name__)

_DISK_THREADS = 8  # reads for fetches, and files of groups and topics
_FORGET_EVERY = timedelta(minutes=1)
_SOFTWARE_FAILED = 70  # EX_SOFTWARE


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


def die(error: BaseException) -> None:
    """Ends the process at once: nothing may be acknowledged after a write that failed."""
    log.critical("what was taken could not be stored", action="died", error=str(error), exc_info=error)
    os._exit(_SOFTWARE_FAILED)


@dataclass(frozen=True, slots=True)
class House:
    """A broker that listens."""

    broker: Broker
    listening: Listening
    endpoints: Mapping[str, str]

    async def ready(self) -> None:
        """At once: it listens since it was built."""

    async def run(self) -> None:
        """Serves until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_forgetting())
            group.create_task(self._keep_time())
            group.create_task(self.broker.delays.deliverer.run())
            group.create_task(self.broker.burier.run())
            group.create_task(self.broker.retainer.run())
            group.create_task(self.broker.describing.looker.run())
            group.create_task(self.broker.transactions.checker.run())
        await self.listening.say_not_serving()

    async def _keep_forgetting(self) -> None:
        """Drops producers that have been silent for too long.

        Not at once: whoever waited for a broker that was down comes back within seconds and still finds its state.
        """
        with suppress(BrokerStopping):
            while not await self._is_stopping_within(_FORGET_EVERY.total_seconds()):
                await self.broker.publishing.forget_silent()
                await self.broker.groups.drop_silent()

    async def _keep_time(self) -> None:
        while not await self._is_stopping_within(TICK_SECONDS):
            self.broker.awake()

    async def _is_stopping_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):  # not by `asyncio.wait_for`, which may swallow a cancellation
            async with asyncio.timeout(seconds):
                await self.broker.stopping.wait()
        return self.broker.stopping.is_set()

    async def clock_was_set(self) -> None:
        """To be called when the clock that `build` was given was set: returns when what is due by now is in its queue.

        Leases of messages are judged by that clock like everything that is due.
        """
        await self.broker.look_again()

    def stop(self) -> None:
        self.broker.drain()


@dataclass(frozen=True, slots=True)
class _Machine:
    """What the broker has from the outside."""

    disk: Disk
    clock: Clock
    die: Die


@asynccontextmanager
async def build(
    settings: BrokerSettings, *, disk: Disk | None = None, clock: Clock = wall_clock, die: Die = die
) -> AsyncIterator[House]:
    """Opens the data directory and listens.

    Raises AddressInUse, DirectoryInUse, DirectoryUnusable, LogDamaged.
    """
    machine = _Machine(disk or Disk(), clock, die)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(_open_broker(settings, machine))
        service = Service(
            "shardcast.broker.v1.BrokerService",
            broker_pb2_grpc.add_BrokerServiceServicer_to_server,
            BulkService(broker, ClientLimits(settings.publish_streams, settings.reads)),
        )
        listening = await stack.enter_async_context(
            serve(
                settings.host,
                settings.port,
                [service],
                authorize=_door(settings),
                on_refusal=broker.measuring.refused,
                most_connections=settings.connections,
            )
        )
        stack.callback(broker.drain)
        endpoints = {"grpc": f"{settings.host}:{listening.port}"}
        if settings.metrics_port is not None:
            from broker.metrics.server import serve_monitor  # its web server takes a tenth of the time of a start

            port = await stack.enter_async_context(
                serve_monitor(settings.host, settings.metrics_port, broker.measuring)
            )
            endpoints["metrics"] = f"{settings.host}:{port}"
        yield House(broker, listening, endpoints)


@asynccontextmanager
async def _open_broker(settings: BrokerSettings, machine: _Machine) -> AsyncIterator[Broker]:
    directory = await asyncio.to_thread(open_directory, settings.data, machine.disk)
    try:
        async with _broker_over(directory, settings, machine) as broker:
            yield broker
    finally:
        directory.release()


@asynccontextmanager
async def _broker_over(directory: DataDirectory, settings: BrokerSettings, machine: _Machine) -> AsyncIterator[Broker]:
    disk, clock, die = machine.disk, machine.clock, machine.die
    limits = Limits(settings.segment_bytes, settings.checkpoint_bytes, settings.durability, settings.open_transactions)
    topics = Topics(directory.topics, disk, die)
    engine = await asyncio.to_thread(open_engine, directory, disk, limits, clock, topics)
    waiters = Waiters()
    scrubber = Scrubber(engine.log, _report_damage)
    background = Background(die)
    try:
        with ThreadPoolExecutor(_DISK_THREADS, "broker-disk") as pool:
            checkpointer = Checkpointer(engine, directory, disk, limits.checkpoint_every, die)
            writer = Writer(engine, checkpointer, waiters.wake, die)
            parts = Parts(
                directory.log_id,
                engine,
                writer,
                engine.catalog,
                AwakeTime(),
                waiters,
                clock,
                pool,
                Space(disk, directory.root, settings.disk_reserve_bytes, time.monotonic),
                scrubber,
                settings.create_topics,
            )
            background.start("broker-scrubber", scrubber.run)
            if settings.durability is Durability.INTERVAL:
                every = timedelta(milliseconds=settings.sync_interval_ms)
                background.start("broker-syncer", Syncer(engine.log, every).run)
            try:
                yield Broker(parts, Retainer(parts, checkpointer, _keep(settings)))
            finally:
                await writer.stop()
    finally:
        await asyncio.to_thread(background.stop)
        engine.close()


def _keep(settings: BrokerSettings) -> Keep:
    return Keep(
        timedelta(hours=settings.retention_hours) if settings.retention_hours else None,
        settings.retention_bytes or None,
        timedelta(days=settings.groups_hold_days),
    )


def _report_damage(damage: LogDamaged) -> None:
    log.error("the log is damaged", action="damaged", **damage.fields)


def _door(settings: BrokerSettings) -> Authorize | None:
    """Lets in who brings one of the access keys; everybody where there are none."""
    keys = [key.get_secret_value().encode() for key in settings.access_keys]
    if not keys:
        return None

    async def authorize(_method: str, token: str) -> str:
        if not any(hmac.compare_digest(token.encode(), key) for key in keys):
            raise Unauthenticated
        return "access key"

    return authorize
