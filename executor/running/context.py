"""What a handler sees of its attempt."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from itertools import count

from executor.errors import NoContext, NoState
from executor.model import RunId, Shard
from executor.running.cancellation import Cancellation
from executor.running.isolation import Portal, in_thread
from executor.running.publisher import AsyncPublisher, Publisher
from executor.running.shard import AttemptShard
from executor.sharding.scan import BATCH_ROWS, Rows
from executor.sharding.source import Condition, Engine, Table, TableSource
from protos.errors import InvalidArgument

MAX_COUNT = 2**63 - 1
ELSEWHERE = object()

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


class _Attempt:
    """What both kinds of handlers see."""

    def __init__(
        self,
        shard: AttemptShard,
        params: object,
        deadline: datetime | None,
        log: Logger,
        portal: Portal,
        *,
        state: object = None,
    ) -> None:
        assignment = shard.assignment
        self.run_id: RunId = assignment.key.run_id
        self.job: str = assignment.job
        self.attempt: int = assignment.attempt_number
        """1 for the first try of the shard."""
        self.params = params
        self.shard: Shard = assignment.shard
        self.deadline = deadline
        """When the attempt is stopped, aware UTC; None: never."""
        self.log = log
        """Goes to the run's log, and to this process's."""
        self._shard = shard
        self._portal = portal
        self._state = state
        self._names = count(1)

    def progress(self, done: int, total: int) -> None:
        """Tells how far the handler is, for display. Raises InvalidArgument for what is no count."""
        counts: tuple[object, ...] = (done, total)
        if not all(isinstance(count, int) and 0 <= count <= MAX_COUNT for count in counts):
            raise InvalidArgument(reason=f"progress is told in whole numbers from 0, not {done!r} of {total!r}")
        self._shard.done, self._shard.total = done, total

    def count(self, name: str, amount: int = 1) -> None:
        """Adds to one of the shard's counts, which its next attempts go on from; for display, summed up over the run.

        A name is letters, digits, "_", "." and "-", at most 64; a shard has 32 of them at most. Raises InvalidArgument.
        """
        self._shard.counts.add(name, amount)

    @property
    def state(self) -> object:
        """What the app's lifespan yielded. Raises NoState in a process of the handler's own."""
        if self._state is ELSEWHERE:
            raise NoState
        return self._state

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt is to stop."""
        return self._cancellation.is_requested

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled if the attempt is to stop."""
        self._cancellation.check()

    @property
    def _cancellation(self) -> Cancellation:
        return self._shard.cancellation

    def _read(self, find_source: Callable[[], TableSource], name: str | None, batch: int) -> Iterator[Rows]:
        return self._shard.read(name or str(next(self._names)), find_source, batch, self._portal)


class Context(_Attempt):
    """The attempt, for a handler that is a plain function."""

    def scan(
        self,
        engine: Engine,
        table: Table,
        *,
        key: str = "id",
        where: Condition | None = None,
        columns: Sequence[str] | None = None,
        name: str | None = None,
        batch: int = BATCH_ROWS,
    ) -> Iterator[Rows]:
        """The rows of this shard by rising key, in batches and constant memory, behind the shard's last cursor.

        `columns` are those wanted (None: all); `name` is what the cursor calls the scan (None: its number among the
        handler's scans). Raises UnknownTable, UnknownColumn, NullKey, DoubleKey, UnfitKey, DatabaseUnreachable,
        BadPlan, ScanRepeated, InvalidArgument, Cancelled, and what opening the shard's producer raises.
        """
        source = partial(TableSource, engine, table, key=key, where=where, columns=columns)
        return self._read(source, name, batch)

    def publisher(self, topic: str) -> Publisher:
        """Publishes to a topic as this shard's producer; a context manager."""
        return Publisher(AsyncPublisher(self._shard, topic), self._portal)


class AsyncContext(_Attempt):
    """The attempt, for a handler that is a coroutine function."""

    def scan(
        self,
        engine: Engine,
        table: Table,
        *,
        key: str = "id",
        where: Condition | None = None,
        columns: Sequence[str] | None = None,
        name: str | None = None,
        batch: int = BATCH_ROWS,
    ) -> AsyncIterator[Rows]:
        """As Context.scan; each batch is read in a thread."""
        source = partial(TableSource, engine, table, key=key, where=where, columns=columns)
        return _in_threads(self._read(source, name, batch))

    def publisher(self, topic: str) -> AsyncPublisher:
        """Publishes to a topic as this shard's producer; an async context manager."""
        return AsyncPublisher(self._shard, topic)


async def _in_threads(batches: Iterator[Rows]) -> AsyncIterator[Rows]:
    while (rows := await in_thread(partial(next, batches, None), "scan")) is not None:
        yield rows


current: ContextVar[Context | AsyncContext] = ContextVar("current")
"""The attempt that the running code belongs to."""


def current_context() -> Context:
    """The attempt, for code that a plain handler calls. Raises NoContext."""
    context = current.get(None)
    if not isinstance(context, Context):
        raise NoContext
    return context


def current_async_context() -> AsyncContext:
    """The attempt, for code that an async handler calls. Raises NoContext."""
    context = current.get(None)
    if not isinstance(context, AsyncContext):
        raise NoContext
    return context
