"""For tests of handlers: one shard run in this process, with a broker that only remembers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from pydantic_core import to_json

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from executor.errors import Fail, Retry, Skip
from executor.limits.current import using
from executor.limits.limits import Limits
from executor.model import Assignment, AttemptKey, RunId, Term
from executor.registry import describe
from executor.running.cancellation import Cancellation
from executor.running.context import AsyncContext, Context, current
from executor.running.isolation import Portal
from executor.running.outcome import encode_result
from executor.running.runlog import RunLog
from executor.running.shard import AttemptShard
from executor.sharding.plans import Plans
from protos.broker.v1 import broker_pb2 as pb


@dataclass(slots=True)
class MemoryProducer:
    """A shard's producer that keeps what is published; everything is acknowledged at once."""

    log_id: str = "memory"
    cursor: bytes | None = None
    published: list[tuple[str, Message]] = field(default_factory=list)  # (topic, message)

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        self.published += [(message.topic or topic, message) for message in messages]
        self.cursor = cursor if cursor is not None else self.cursor
        receipts: asyncio.Future[Receipts] = asyncio.get_running_loop().create_future()
        receipts.set_result(Receipts(pb.Published(log_id=self.log_id)))
        return receipts

    async def flush(self) -> None:
        return None

    def by_topic(self) -> Mapping[str, Sequence[Message]]:
        topics = dict.fromkeys(topic for topic, _ in self.published)
        return {topic: [message for at, message in self.published if at == topic] for topic in topics}


@dataclass(frozen=True, slots=True)
class LocalRun:
    """What a handler returned, and what it published by topic, logged and told of its progress."""

    result: object
    published: Mapping[str, Sequence[Message]]
    cursor: bytes | None  # hand it to the next run_local to go on behind it
    lines: Sequence[str]  # as they would stand in the run's log: at level info and above
    progress: tuple[int, int] | None  # (done, total) as it was told last

    @property
    def messages(self) -> Sequence[Message]:
        """Everything published, whatever the topic."""
        return [message for messages in self.published.values() for message in messages]


def run_local(
    handler: Callable[..., object],
    params: object = None,
    shard: tuple[int, int] = (0, 1),
    *,
    cursor: bytes | None = None,
    limits: Limits | None = None,
) -> LocalRun:
    """Runs a handler on shard (index, total) and raises what it raises; one that is not async in the calling thread.

    A Retry, Fail or Skip that it returns is the result. `params` are converted as a run's parameters are, and any other
    result must be one that a run can keep: BadParams, BadResult. `limits` are those of the app (None: new ones in
    memory). Nothing but the handler's own database is needed.
    """
    described = describe(getattr(handler, "__qualname__", "handler"), handler, (Context, AsyncContext))
    index, total = shard
    key = AttemptKey(RunId(str(uuid4())), index, Term(1))
    assignment = Assignment(key, job="local", handler=described.name, total=total, params=to_json(params).decode())
    given, producer = described.decode(assignment.params), MemoryProducer(cursor=cursor)
    log = RunLog(key, 1, lambda: datetime.now(UTC))
    with _loop_in_thread() as loop:
        portal = Portal(loop)
        attempt = portal(_shard(assignment, producer))
        kind = AsyncContext if described.is_async else Context
        context = kind(attempt, given, None, log, portal)
        token = current.set(context)
        try:
            with using(limits or Limits("memory://")):
                returned = described.call(context, given)
                result = portal(returned) if asyncio.iscoroutine(returned) else returned
            if not isinstance(result, Retry | Fail | Skip):
                encode_result(described.name, result)
            portal(attempt.finish())
        finally:
            current.reset(token)
            portal(attempt.close())
    said, counters = log.take(), attempt.counters
    lines = [line.text for line in said.lines] if said else []
    progress = None if (counters.done, counters.total) == (0, 0) else (counters.done, counters.total)
    return LocalRun(result, producer.by_topic(), producer.cursor, lines, progress)


async def _shard(assignment: Assignment, producer: MemoryProducer) -> AttemptShard:
    @asynccontextmanager
    async def open_producer(key: AttemptKey) -> AsyncIterator[MemoryProducer]:
        yield producer

    async def keep(attempt: AttemptKey, name: str, value: str) -> str:
        return value

    return AttemptShard(assignment, Cancellation(float("inf"), lambda: 0.0), open_producer, keep, Plans())


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
