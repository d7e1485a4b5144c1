"""Figures as metrics of Prometheus: base units, totals since the start of the process."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from executor.probe.tally import BUCKETS, Durations, Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "shardcast_executor"


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(figures: Figures) -> bytes:
    """The text that a monitor gets."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once([*_families(figures)]))
    return generate_latest(registry)


def _families(figures: Figures) -> Iterator[Metric]:
    attempts = CounterMetricFamily(f"{_PREFIX}_attempts", "Attempts that have ended, by state.", labels=["state"])
    for state, count in sorted(figures.tally.attempts.items()):
        attempts.add_metric([state], count)
    yield attempts
    yield _seconds(figures.tally.durations)
    for name, text, total in (
        ("rows", "Rows that scans have handed to handlers.", figures.rows),
        ("published_messages", "Messages published and acknowledged.", figures.published),
        ("log_lines_dropped", "Log lines given up, as told to the admin.", figures.tally.log_lines_dropped),
    ):
        yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value=total)
    for name, text, value in (
        ("attempts_in_progress", "Attempts that run.", figures.in_progress),
        ("slots", "Attempts that may run side by side.", figures.slots),
        ("reports_waiting", "Outcomes that no admin has accepted yet.", figures.reports_waiting),
        ("linked", "1 while a link to an admin stands.", figures.is_linked),
        ("draining", "1 while nothing new is taken.", figures.is_draining),
    ):
        yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=float(value))


def _seconds(durations: dict[str, Durations]) -> Metric:
    family = HistogramMetricFamily(f"{_PREFIX}_handler_seconds", "How long attempts take.", labels=["handler"])
    bounds = (*map(str, BUCKETS), "+Inf")
    for handler, taken in sorted(durations.items()):
        buckets = [*zip(bounds, map(float, accumulate(taken.counts)), strict=True)]
        family.add_metric([handler], buckets, taken.total_seconds)
    return family
