"""All that is measured, at one moment."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from broker.errors import UnknownGroup
from broker.face.consuming.groups import GroupReport, Groups
from broker.face.parts import Parts
from broker.face.upkeep.describing import Activity, Describing, Description
from broker.log.sync_times import Histogram
from broker.model import GroupName, QueueRange, Topic


@dataclass(frozen=True, slots=True)
class TopicFigures:
    """A topic, what its queues hold by number, and what happens in it."""

    topic: Topic
    queues: Sequence[QueueRange]
    activity: Activity


@dataclass(frozen=True, slots=True)
class Figures:
    """The broker, its topics and groups at `now_ms`; syncs and refusals (by code) since the start."""

    now_ms: int
    broker: Description
    topics: Sequence[TopicFigures]
    groups: Sequence[GroupReport]
    syncs: Histogram
    refusals: Mapping[str, int]


class Measuring:
    """Belongs to one event loop; what it costs grows with topics and groups, not with messages."""

    def __init__(self, parts: Parts, describing: Describing, groups: Groups) -> None:
        self._refusals = Counter[str]()
        self._parts = parts
        self._describing = describing
        self._groups = groups

    def refused(self, code: str) -> None:
        """A request was."""
        self._refusals[code] += 1

    async def figures(self) -> Figures:
        """Raises BrokerStopping."""
        self.check_ready()
        parts = self._parts
        reports = [await self._report(name) for name in self._groups.names()]  # publishes go on between
        topics = [
            TopicFigures(topic, parts.catalog.of_topic(topic), self._describing.topic(topic))
            for topic in parts.catalog.topics.list()
        ]
        return Figures(
            parts.clock(),
            await self._describing.broker(),
            topics,
            [report for report in reports if report is not None],
            parts.engine.log.sync_times.histogram(),
            dict(self._refusals),
        )

    def check_ready(self) -> None:
        """Raises BrokerStopping."""
        self._parts.check_not_stopping()

    async def _report(self, name: GroupName) -> GroupReport | None:
        """None: it was deleted just now."""
        with suppress(UnknownGroup):
            return await self._groups.get(name)
        return None
