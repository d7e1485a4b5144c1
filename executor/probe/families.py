"""Figures as metrics of Prometheus: base units, totals since the start of the process."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from executor.probe.tally import BUCKETS, Durations, Figures

_PREFIX = "shardcast_executor"


def families(figures: Figures) -> Iterator[Metric]:
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
