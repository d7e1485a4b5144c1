"""What an attempt may do with its shard: one producer, opened at first use, and scans under plans kept for the run."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from broker.errors import ProducerUnknown
from executor.errors import ReplicaBehind
from executor.model import Assignment, AttemptKey, Counters
from executor.running.cancellation import Cancellation
from executor.running.isolation import Portal
from executor.sharding.plan import Asked, Bucket, ScanPlan, Strategy
from executor.sharding.plans import Plans
from executor.sharding.publish import Producer, ShardPublisher
from executor.sharding.scan import BATCH_ROWS, Rows, read_shard
from executor.sharding.table.pages import pages_of
from executor.sharding.table.planning import ask, make_plan
from executor.sharding.table.source import TableSource
from protos.errors import InvalidArgument

MAX_COUNT = 2**62
MAX_COUNTS = 32  # names
COUNT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

OpenProducer = Callable[[AttemptKey], AbstractAsyncContextManager[Producer]]
"""Entering opens the shard's producer under the attempt's term, for a holder that is new each time."""


class Pin(Protocol):
    """Proposes a value that a run has once."""

    async def __call__(self, attempt: AttemptKey, name: str, value: str) -> str:
        """The value that is kept, whoever proposed it. Raises Cancelled if the attempt is not held any more."""


REPLICA_SECONDS = 30.0  # a replica has so long to show what the run shall read
REPLICA_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Scan:
    """What a handler's call of `scan` asks for."""

    find_source: Callable[[], TableSource]
    strategy: Strategy = "hash"
    bucket: Bucket | None = None
    batch: int = BATCH_ROWS


class Counts:
    """What a handler counts under names of its own. Any thread may."""

    def __init__(self, before: Mapping[str, int]) -> None:
        self._counts = dict(before)
        self._lock = threading.Lock()

    @property
    def now(self) -> Mapping[str, int]:
        return dict(self._counts)

    def add(self, name: object, amount: object) -> None:
        """Raises InvalidArgument."""
        if not isinstance(name, str) or not COUNT_NAME.fullmatch(name):
            raise InvalidArgument(reason=f"a count has a name of {COUNT_NAME.pattern}, not {name!r}")
        if not isinstance(amount, int) or not 0 <= amount <= MAX_COUNT:
            raise InvalidArgument(reason=f"a count only grows, by whole numbers, not by {amount!r}")
        with self._lock:
            if name not in self._counts and len(self._counts) >= MAX_COUNTS:
                raise InvalidArgument(reason=f"a shard has at most {MAX_COUNTS} counts, {name!r} would be one more")
            self._counts[name] = min(self._counts.get(name, 0) + amount, MAX_COUNT)


class AttemptShard:
    """The shard of one attempt. Coroutines run in the daemon's loop; `read` belongs to the handler's thread."""

    def __init__(
        self, assignment: Assignment, cancellation: Cancellation, open_producer: OpenProducer, pin: Pin, plans: Plans
    ) -> None:
        self.assignment = assignment
        self.cancellation = cancellation
        self.done, self.total = 0, 0
        self.counts = Counts(assignment.counts)
        self._open_producer = open_producer
        self._pin = pin
        self._plans = plans
        self._pins = dict(assignment.pins)
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._publisher: ShardPublisher | None = None

    @property
    def counters(self) -> Counters:
        if self._publisher is None:
            return Counters(done=self.done, total=self.total, counts=self.counts.now)
        state = self._publisher.state
        told = (self.done, self.total, self.counts.now)
        return Counters(state.rows, state.published, state.encode().decode(), *told)

    @property
    def gained(self) -> tuple[int, int]:
        """Rows handed out and messages acknowledged by this attempt alone."""
        return self._publisher.gained if self._publisher is not None else (0, 0)

    async def open(self) -> ShardPublisher:
        """Opens the producer once, which fences every other holder of the shard.

        Raises StaleTerm, Cancelled, and ProducerUnknown when the run began on another broker's log: what it has
        published there is not known here, and to start over would publish it twice.
        """
        async with self._opening:
            self.cancellation.check()
            if self._publisher is None:
                opening = self._stack.enter_async_context(self._open_producer(self.assignment.key))
                producer = await self.cancellation.unless_stopped(opening)
                if await self._pinned("log", producer.log_id) != producer.log_id:
                    reason = "the run began on another broker's log"
                    raise ProducerUnknown(producer_id=self.assignment.key.producer_id, reason=reason)
                self._publisher = ShardPublisher(producer, self.cancellation)
            return self._publisher

    def read(self, name: str, scan: Scan, portal: Portal) -> Iterator[Rows]:
        """The batches of a scan, from where the shard's cursor stands; blocking. Opens the producer first."""
        size: object = scan.batch
        if not isinstance(size, int) or size < 1:
            raise InvalidArgument(reason=f"a batch of scan {name} has at least one row, not {size!r}")
        publisher = portal(self.open())
        begin = publisher.begin(name)
        if begin.is_done:
            return
        source, shard = scan.find_source(), self.assignment.shard
        plan = self._plan(name, source, ask(source, shard.total, scan.strategy, scan.bucket), portal)
        self._await_replica(source, plan, portal)
        pages, clock = pages_of(source, plan, shard), self.cancellation.clock
        for piece in read_shard(pages, plan.stretches(shard), begin, batch=scan.batch, monotonic=clock):
            self.cancellation.check()
            if piece.rows:
                yield Rows(piece, publisher.hand_out(name, piece.position, len(piece.rows)), source.name)
            else:
                portal(publisher.pass_over(name, piece.position))

    async def finish(self) -> None:
        """Returns when everything published is acknowledged. Raises what the broker refused, or Cancelled."""
        if self._publisher is not None:
            await self._publisher.flush()

    async def close(self) -> None:
        await self._stack.aclose()

    def _plan(self, name: str, source: TableSource, asked: Asked, portal: Portal) -> ScanPlan:
        """Made once by this process, and once for the run: to cut ranges means to walk over all keys."""
        key = f"scan/{name}"
        with self._plans.turn(self.assignment.key.run_id, key) as turn:
            if turn.plan is None:
                turn.plan = self._pins.get(key) or portal(self._pinned(key, make_plan(source, asked).encode()))
            plan = ScanPlan.decode(turn.plan)
        plan.check(asked)
        return plan

    def _await_replica(self, source: TableSource, plan: ScanPlan, portal: Portal) -> None:
        """Until it shows the rows that the plan saw, as far as they are still there. Raises ReplicaBehind."""
        upper = None if source.replica is None else plan.upper
        give_up_at = self.cancellation.clock() + REPLICA_SECONDS
        while upper is not None and not source.shows(upper):
            if self.cancellation.clock() >= give_up_at:
                shown = {"database": source.database, "table": source.name, "upper": upper}
                raise ReplicaBehind(**shown, seconds=REPLICA_SECONDS)
            portal(self.cancellation.unless_stopped(asyncio.sleep(REPLICA_LOOK_SECONDS)))
            upper = source.greatest(upper)  # what was deleted meanwhile will never be shown

    async def _pinned(self, name: str, value: str) -> str:
        if name not in self._pins:
            pinning = self._pin(self.assignment.key, name, value)
            self._pins[name] = await self.cancellation.unless_stopped(pinning)
        return self._pins[name]
