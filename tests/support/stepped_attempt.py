"""An attempt whose handler goes on step by step, as a test says: scan, publisher and producer are the real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy as sa

from broker.client.message import Message
from broker.client.publishing.shard_producer import ShardProducer
from broker.errors import StaleTerm
from executor.errors import Cancelled
from executor.model import Assignment, AttemptKey
from executor.running.cancellation import Cancellation
from executor.running.context import Context
from executor.running.runlog import RunLog
from executor.running.shard import AttemptShard, Pin
from executor.sharding.plan import Strategy
from executor.sharding.plans import Plans
from executor.sharding.publish import Producer
from executor.sharding.scan import Rows
from tests.support.broker_engine import TOPIC

T = TypeVar("T")

TURNS = 30  # of the loop, behind which everything waits for the test


class Portal:
    """Runs the loop, in place of a thread of its own, until what a handler waits for is done."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __call__(self, coroutine: Coroutine[None, None, T]) -> T:
        task = self.begin(coroutine)
        assert task.done(), "it waits for what the test has in its hand"
        return task.result()

    def begin(self, coroutine: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """As far as it comes by itself."""
        task = self._loop.create_task(coroutine)
        self.turn()
        return task

    def turn(self) -> None:
        self._loop.run_until_complete(_turns())

    def close(self) -> None:
        self._loop.close()


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def at_once() -> AsyncIterator[Callable[[], None]]:
    """Takes the place of `backoff`."""
    while True:
        yield lambda: None
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Table:
    """What is scanned, in batches of so many rows."""

    engine: sa.Engine
    strategy: Strategy
    batch: int


class SteppedAttempt:
    """Reads a batch, publishes it under its cursor, reads the next one, ... and says at the end that it succeeded."""

    def __init__(
        self, assignment: Assignment, cancellation: Cancellation, pin: Pin, portal: Portal, table: Table
    ) -> None:
        self.key: AttemptKey = assignment.key
        self.cancellation = cancellation
        self.is_over = False
        self.has_succeeded = False
        self.was_fenced = False
        self._portal = portal
        self._table = table
        self._shard = AttemptShard(assignment, cancellation, self._open_producer, pin, Plans())
        log = RunLog(assignment.key, 1, lambda: datetime.now(UTC))
        self._context = Context(self._shard, None, None, log, portal)  # type: ignore[arg-type]
        self._scan: Iterator[Rows] | None = None
        self._rows: Rows | None = None
        self._finishing: asyncio.Task[None] | None = None

    @property
    def acknowledged(self) -> int:
        """Messages of the shard, earlier attempts included."""
        return self._shard.counters.published

    def step(self) -> None:
        """Where everything is read and published, it waits until all is acknowledged, and ends."""
        if self.is_over:
            return
        with self._ending():
            if self._scan is None:
                self._scan = self._context.scan(
                    self._table.engine, "users", strategy=self._table.strategy, batch=self._table.batch
                )
            if self._rows is not None:
                messages = [Message(str(user.id).encode()) for user in self._rows]
                self._context.publisher(TOPIC.name).publish(messages, checkpoint=self._rows.cursor)
                self._rows = None
            elif (rows := next(self._scan, None)) is not None:
                self._rows = rows
            else:
                self._finish()

    def _finish(self) -> None:
        if self._finishing is None:
            self._finishing = self._portal.begin(self._shard.finish())
        if self._finishing.done():
            self._finishing.result()
            self.is_over, self.has_succeeded = True, not self.cancellation.has_lapsed

    def close(self) -> None:
        """As its process does behind its end, and the kernel where the process has died."""
        self.is_over = True
        if self._finishing is not None:
            self._finishing.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._finishing.cancel()
        self._portal(self._shard.close())

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except Cancelled:
            assert self.cancellation.is_requested
            self.is_over = True
        except StaleTerm:
            self.is_over = self.was_fenced = True

    @asynccontextmanager
    async def _open_producer(self, key: AttemptKey) -> AsyncIterator[Producer]:
        name, holder_id = str(key), f"holder-{key.term}"
        async with ShardProducer(name, key.producer_id, term=key.term, holder_id=holder_id, window=99) as producer:
            yield producer
