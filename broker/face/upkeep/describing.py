"""What the broker tells of itself and of its topics."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from time import monotonic

from broker.delivery.published import PublishedRates
from broker.delivery.retention.rules import Holder
from broker.errors import DiskFull
from broker.face.parts import Parts
from broker.face.upkeep.retention import Retainer
from broker.log.commit_log import Durability
from broker.log.sync_times import Durations
from broker.model import LogId, Topic

LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Description:
    """The broker as a whole. Positions are of the commit log, `free_bytes` of its disk, `syncs` of the last minute."""

    log_id: LogId
    version: str
    durability: Durability
    lowest_position: int
    end_position: int
    segments: int
    free_bytes: int
    is_refusing_publishes: bool
    oldest_held_by: Sequence[Holder]
    syncs: Durations
    damaged_frames: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Messages of a topic: how many are there, how many are not due yet, and came a second over the last minute."""

    messages: int
    delayed: int
    published_per_second: float


class RateLooker:
    """The loop behind the rates of topics."""

    def __init__(self, parts: Parts) -> None:
        self.rates = PublishedRates()
        self._parts = parts

    def run_once(self) -> None:
        self.rates.look(self._parts.engine.queues.held(), self._parts.clock())

    async def run(self) -> None:
        """Until the broker stops."""
        self.run_once()
        while not await self._parts.is_stopping_within(LOOK_EVERY_SECONDS):
            self.run_once()


class Describing:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts, retainer: Retainer) -> None:
        self.looker = RateLooker(parts)
        self._parts = parts
        self._retainer = retainer

    async def broker(self) -> Description:
        """All of it but topics and groups."""
        parts, log = self._parts, self._parts.engine.log
        held_by = await self._retainer.oldest_held_by()
        return Description(
            log_id=parts.log_id,
            version=version("shardcast"),
            durability=log.durability,
            lowest_position=log.start,
            end_position=log.written,
            segments=len(log.segments),
            free_bytes=parts.space.free,
            is_refusing_publishes=self._is_refusing(),
            oldest_held_by=held_by,
            syncs=log.sync_times.last_minute(monotonic()),
            damaged_frames=len(parts.scrubber.damages),
        )

    def topic(self, topic: Topic) -> Activity:
        parts, gone = self._parts, self._parts.engine.leasing.gone(topic.topic_id)
        messages = sum(map(gone.left_of, parts.catalog.of_topic(topic)))
        delayed = parts.engine.delaying.index.pending(topic.topic_id)
        return Activity(messages, delayed, self.looker.rates.per_second(topic.topic_id, parts.clock()))

    def _is_refusing(self) -> bool:
        try:
            self._parts.space.check()
        except DiskFull:
            return True
        return False
