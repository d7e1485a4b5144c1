"""Retention: the loop that retires what is old or too much and deletes the segments that nobody needs any more."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock

import structlog

from broker.delivery.retention.retiring import Retired, RetireMessages
from broker.delivery.retention.rules import (
    Extent,
    Hold,
    Holder,
    HolderKind,
    QueueFacts,
    first_within,
    free_before,
    holder_of,
    holders,
)
from broker.delivery.retention.topic_bytes import TopicBytes
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer
from broker.errors import BrokerStopping, QueueDamaged
from broker.face.parts import Parts
from broker.model import QueueKey, QueueRange, Topic
from broker.queues.finding import offset_behind, position_of

log = structlog.get_logger(__name__)

EVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Keep:
    """How long and how much is kept where a topic says nothing else; None: for ever, and whatever the disk holds."""

    age: timedelta | None
    bytes: int | None
    groups_hold_for: timedelta


@dataclass(frozen=True, slots=True)
class Swept:
    """Messages that are not offered any more, and segments that were deleted."""

    messages: int
    segments: int


class Sweeping:
    """Looks for what is outlived, and deletes; blocks, for any thread."""

    def __init__(self, engine: Engine, checkpointer: Checkpointer, keep: Keep) -> None:
        self._engine = engine
        self._checkpointer = checkpointer
        self._keep = keep
        self._sizes = TopicBytes()
        self._looking = Lock()

    def oldest_held_by(self, now_ms: int) -> list[Holder]:
        """What the oldest segment is still there for."""
        engine, command = self._engine, RetireMessages(self.outlived(now_ms), self._keep.groups_hold_for)
        queues_hold = self._queues_hold(engine.retiring.facts(command, now_ms), engine.queues.held())
        return holders(self._extents(), [*queues_hold, *engine.retiring.holds()])

    def outlived(self, now_ms: int) -> dict[QueueKey, int]:
        """Before which offset everything is too old or too much, by queue."""
        begin = first_within(self._extents(), self._keep.bytes)
        with self._looking:
            return {
                key: outlived
                for topic in self._engine.catalog.topics.list()
                for key, outlived in self._outlived_of(topic, begin, now_ms).items()
            }

    def _outlived_of(self, topic: Topic, begin: int, now_ms: int) -> dict[QueueKey, int]:
        keys = (QueueKey(topic.topic_id, number) for number in range(topic.read_queues))
        queues = {key: self._engine.queues.queue(key) for key in keys}
        position = max(begin, self._outlived_by_age(topic, now_ms))
        limit = topic.policy.retention_bytes
        by_size = self._sizes.outlived(queues, limit) if limit is not None else {}
        return {key: max(by_size.get(key, 0), offset_behind(queue, position)) for key, queue in queues.items()}

    def _outlived_by_age(self, topic: Topic, now_ms: int) -> int:
        """Up to which position of the log everything is older than the topic's messages are kept."""
        age = topic.policy.retention or self._keep.age
        index = self._engine.log_index
        return 0 if age is None else index.position_at(now_ms - age // timedelta(milliseconds=1))

    def delete(self, retired: Retired, now_ms: int) -> int:
        """Deletes what neither a start from the stored checkpoint nor anybody else needs; returns how many segments.

        What others do not need any more they must not need again after a power loss: the log is durable first.
        """
        engine, stored = self._engine, self._checkpointer.stored()
        facts = engine.retiring.facts(RetireMessages({}, self._keep.groups_hold_for), now_ms)
        later = Hold(Holder(HolderKind.ACTIVE), min(stored.position, retired.end))
        holds = [later, *retired.holds, *self._queues_hold(facts, stored.queues)]
        removed = engine.log.remove_before(free_before(self._extents(), holds))
        if removed:
            engine.log_index.sweep()
        return removed

    def _extents(self) -> list[Extent]:
        return [Extent(segment.start, segment.end) for segment in self._engine.log.segments]

    def _queues_hold(self, facts: Iterable[QueueFacts], held: Mapping[QueueKey, QueueRange]) -> Iterator[Hold]:
        """By what they held then; a queue that is not among them has only what came later."""
        for known in facts:
            queue, then = self._engine.queues.queue(known.key), held.get(known.key)
            if then is not None and then.lowest_offset < queue.end:
                yield Hold(holder_of(known), position_of(queue, then.lowest_offset))


class Retainer:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts, checkpointer: Checkpointer, keep: Keep) -> None:
        self._parts = parts
        self._keep = keep
        self._sweeping = Sweeping(parts.engine, checkpointer, keep)

    async def run_once(self) -> Swept:
        """Moves the lowest offsets, has them stored, and deletes what lies before. Raises BrokerStopping."""
        outlived = await self._parts.on_disk(self._sweeping.outlived, self._parts.clock())
        retired = await self._retire(outlived)
        if retired.messages:
            await self._retire({})  # answered when the writer has looked whether a checkpoint is due
        segments = await self._parts.on_disk(self._sweeping.delete, retired, self._parts.clock())
        return Swept(retired.messages, segments)

    async def _retire(self, outlived: Mapping[QueueKey, int]) -> Retired:
        retired = await self._parts.ask(RetireMessages(outlived, self._keep.groups_hold_for))
        assert isinstance(retired, Retired)
        return retired

    async def run(self) -> None:
        """Until the broker stops."""
        with suppress(BrokerStopping):
            while not await self._parts.is_stopping_within(EVERY_SECONDS):
                await self._try_once()

    async def _try_once(self) -> None:
        """What cannot be read or deleted now is tried again with the next round."""
        try:
            await self.run_once()
        except (OSError, QueueDamaged) as error:
            log.error("retention failed", action="retention_failed", error=str(error))

    async def oldest_held_by(self) -> list[Holder]:
        """What the oldest segment is still there for."""
        return await self._parts.on_disk(self._sweeping.oldest_held_by, self._parts.clock())
