"""Metrics as the text that Prometheus reads, made anew for each look."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposed(metrics: Iterable[Metric]) -> bytes:
    """The text that a monitor gets."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once([*metrics]))
    return generate_latest(registry)
