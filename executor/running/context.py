"""What a handler sees of its attempt."""

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from itertools import count

from executor.errors import NoContext, NoState
from executor.model import RunId, Shard
from executor.running.cancellation import Cancellation
from executor.running.isolation import Portal, in_thread
from executor.running.publisher import AsyncPublisher, Publisher
from executor.running.shard import AttemptShard, Scan
from executor.sharding.plan import Bucket, Strategy
from executor.sharding.scan import BATCH_ROWS, Rows
from executor.sharding.table.source import Condition, Engine, KeyNames, Table, TableSource
from executor.sharding.units import Limits
from protos.errors import InvalidArgument

MAX_COUNT = 2**63 - 1
LIMITS = Limits()
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

    def _read(self, scan: Scan, name: str | None) -> Iterator[Rows]:
        return self._shard.read(name or str(next(self._names)), scan, self._portal)

    def _make_publisher(
        self, topic: str, max_messages: int, max_bytes: int, linger: timedelta | float, pace: float | None
    ) -> AsyncPublisher:
        seconds = linger.total_seconds() if isinstance(linger, timedelta) else linger
        return AsyncPublisher(self._shard, topic, Limits(max_messages, max_bytes, seconds), pace)


class Context(_Attempt):
    """The attempt, for a handler that is a plain function."""

    def scan(
        self,
        engine: Engine,
        table: Table,
        *,
        key: KeyNames = None,
        strategy: Strategy = "hash",
        bucket: Bucket | None = None,
        where: Condition | None = None,
        columns: Sequence[str] | None = None,
        replica: Engine | None = None,
        name: str | None = None,
        batch: int = BATCH_ROWS,
    ) -> Iterator[Rows]:
        """The rows of this shard by rising key, in batches and constant memory, behind the shard's last cursor.

        `key` names the column, or columns, that tell the rows apart (None: the table's primary key): integers, text,
        UUIDs or bytes. `strategy` says which rows are the shard's: "hash" those with `shard_of(key, total)`, read whole
        by every shard, or found by the column of a `bucket`; "ranges" one part of the key's order, of equal size;
        "buckets" those of every total-th bucket. `where` leaves rows out; `columns` are those wanted (None: all).
        `replica` is another engine to read pages from, once it shows what this one had when the run began. `name` is
        what the cursor calls the scan (None: its number among the handler's scans), `batch` the most rows of a batch.

        The first scan of a run fixes all this and the greatest key for all its shards and attempts. A row that is there
        from then to the end, with one key, is read exactly once; one that comes, goes or changes its key meanwhile may
        be read or not; other columns are as they are when its page is read.

        Raises UnknownTable, UnknownColumn, NoKey, NullKey, DoubleKey, UnfitKey, UnfitBucket, BadFilter, ForeignRow,
        ReplicaBehind, DatabaseUnreachable, BadPlan, ScanRepeated, InvalidArgument, Cancelled, and what opening the
        shard's producer raises.
        """
        source = partial(TableSource, engine, table, key=key, where=where, columns=columns, replica=replica)
        return self._read(Scan(source, strategy, bucket, batch), name)

    def publisher(
        self,
        topic: str,
        *,
        max_messages: int = LIMITS.messages,
        max_bytes: int = LIMITS.size,
        linger: timedelta | float = LIMITS.linger,
        pace: float | None = None,
    ) -> Publisher:
        """Publishes to a topic as this shard's producer; a context manager.

        `publish_each` gathers units of at most `max_messages` and `max_bytes` (of keys, bodies and headers), and what
        is gathered waits at most `linger` (in seconds where it is a number). `pace` is messages per second (None: as
        fast as the broker takes them) and may be changed at any time: `publisher.pace = 500`. Raises InvalidArgument.
        """
        return Publisher(self._make_publisher(topic, max_messages, max_bytes, linger, pace), self._portal)


class AsyncContext(_Attempt):
    """The attempt, for a handler that is a coroutine function."""

    def scan(
        self,
        engine: Engine,
        table: Table,
        *,
        key: KeyNames = None,
        strategy: Strategy = "hash",
        bucket: Bucket | None = None,
        where: Condition | None = None,
        columns: Sequence[str] | None = None,
        replica: Engine | None = None,
        name: str | None = None,
        batch: int = BATCH_ROWS,
    ) -> AsyncIterator[Rows]:
        """As Context.scan; each batch is read in a thread."""
        source = partial(TableSource, engine, table, key=key, where=where, columns=columns, replica=replica)
        return _in_threads(self._read(Scan(source, strategy, bucket, batch), name))

    def publisher(
        self,
        topic: str,
        *,
        max_messages: int = LIMITS.messages,
        max_bytes: int = LIMITS.size,
        linger: timedelta | float = LIMITS.linger,
        pace: float | None = None,
    ) -> AsyncPublisher:
        """As Context.publisher; an async context manager."""
        return self._make_publisher(topic, max_messages, max_bytes, linger, pace)


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
