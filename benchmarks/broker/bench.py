"""A broker that holds nothing else: a method for each kind of case, ours and then the floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.broker.bare import Log, write_seconds
from benchmarks.broker.cases import Case
from benchmarks.broker.measure import fetch_rate, latencies, milliseconds, publish_rate
from benchmarks.broker.one_broker import Shardcast
from benchmarks.figures import Figure

NAME = "broker"


@dataclass(frozen=True, slots=True)
class Bench:
    """One broker as its client sees it, and its log as the disk does."""

    shardcast: Shardcast
    log: Log
    scratch: Path
    messages: int
    settings: Mapping[str, object]

    async def publish(self, case: Case) -> Figure:
        """Through the public client."""
        count, began = case.count(self.messages), self.log.end
        rate = await publish_rate(self.shardcast, case.topic, count, case.batch, case.in_flight)
        return self._published(case, rate, count, began)

    async def encoded(self, case: Case) -> Figure:
        """With requests that were bytes before: the broker alone."""
        count, began = case.count(self.messages), self.log.end
        rate = await self.shardcast.encoded_rate(case.topic, count, case.batch, case.in_flight)
        return self._published(case, rate, count, began)

    async def fetch(self, case: Case, published: Case) -> Figure:
        """Reads what was published, while the log holds nothing else."""
        count, size = published.count(self.messages), self.log.end
        rate = await fetch_rate(self.shardcast, published.topic, count)
        floor = count / self.log.read_seconds()
        settings = self.of(case, f"{size:,} bytes of the log, read from page cache")
        return Figure(NAME, case.name, rate, "messages/s", floor, settings=settings)

    async def latency(self, case: Case) -> Sequence[Figure]:
        """One message at a time."""
        count, began = case.count(self.messages), self.log.end
        taken = await latencies(self.shardcast, case.topic, count)
        floor, settings = self._bare_writes(case, began)
        return [
            Figure(
                NAME,
                f"{case.name} p{percent}",
                milliseconds(taken, percent),
                "ms",
                milliseconds(floor, percent),
                settings=settings,
            )
            for percent in (50, 99)
        ]

    def _published(self, case: Case, rate: float, count: int, began: int) -> Figure:
        floor, settings = self._bare_writes(case, began)
        return Figure(NAME, case.name, rate, "messages/s", count / sum(floor), settings=settings)

    def _bare_writes(self, case: Case, began: int) -> tuple[Sequence[float], Mapping[str, object]]:
        """The seconds of each write and fdatasync of what the log got since `began`, and the settings that say so."""
        written = self.log.since(began)
        settings = self.of(case, f"{written.size:,} bytes, {written.syncs:,} fdatasyncs as counted in the log")
        return write_seconds(self.scratch, written), settings

    def of(self, case: Case, floor: str) -> Mapping[str, object]:
        """The settings of a case."""
        return {"batch": case.batch, "in flight": case.in_flight, **self.settings, "floor": floor}
