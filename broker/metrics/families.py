"""Figures as metrics of Prometheus. Names end in their unit; totals count since the log began, or since the start."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from broker.face.consuming.groups import GroupReport
from broker.face.upkeep.describing import Description
from broker.face.upkeep.measuring import Figures, TopicFigures
from broker.log.sync_times import BUCKETS, Histogram

_PREFIX = "shardcast_broker"


def families(figures: Figures) -> Iterator[Metric]:
    yield from _log(figures.broker)
    yield _syncs(figures.syncs)
    yield from _topics(figures.topics)
    yield from _groups(figures.groups, figures.now_ms)
    refusals = _counter("refusals", "Requests refused, by code.", "code")
    for code, count in sorted(figures.refusals.items()):
        refusals.add_metric([code], count)
    yield refusals


def _log(broker: Description) -> Iterator[Metric]:
    for name, text, value in (
        ("log_bytes", "Bytes of the commit log.", broker.end_position - broker.lowest_position),
        ("log_segments", "Segments of the commit log.", broker.segments),
        ("disk_free_bytes", "Bytes that are free on the disk of the log.", broker.free_bytes),
        ("refusing_publishes", "1 while the disk is too full for publishes.", broker.is_refusing_publishes),
        ("damaged_stretches", "Damaged stretches of the log found since the start.", broker.damaged_frames),
    ):
        yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=float(value))


def _syncs(syncs: Histogram) -> Metric:
    bounds = (*map(str, BUCKETS), "+Inf")
    buckets = [*zip(bounds, map(float, accumulate(syncs.counts)), strict=True)]
    return HistogramMetricFamily(f"{_PREFIX}_fsync_seconds", "How long syncs of the log take.", buckets, syncs.total)


def _topics(topics: Iterable[TopicFigures]) -> Iterator[Metric]:
    stored = _gauge("messages", "Messages stored.", "topic", "queue")
    published = _counter("published_messages", "Messages that ever came into a topic.", "topic")
    delayed = _gauge("delayed_messages", "Messages that are not due yet.", "topic")
    for known in topics:
        name = known.topic.name
        for number, queue in enumerate(known.queues):
            stored.add_metric([name, str(number)], queue.end_offset - queue.lowest_offset)
        published.add_metric([name], sum(queue.end_offset for queue in known.queues))
        delayed.add_metric([name], known.activity.delayed)
    return iter((stored, published, delayed))


def _groups(groups: Iterable[GroupReport], now_ms: int) -> Iterator[Metric]:
    lag = _gauge("group_lag_messages", "Messages that a group has not done.", "group", "topic", "queue")
    oldest = _gauge("group_oldest_unread_seconds", "Age of the oldest message that is not done.", "group", "topic")
    consumed = _counter("consumed_messages", "Offsets that a group has passed.", "group", "topic")
    leased = _gauge("group_leased_messages", "Messages that members have just now.", "group")
    waiting = _gauge("group_waiting_messages", "Messages that wait for an attempt, or for one of their key.", "group")
    members = _gauge("group_members", "Members of a group.", "group")
    dead = _gauge("group_dead_letters", "Dead letters of a group.", "group")
    for report in groups:
        group, name = report.status.group, report.status.group.name
        ages, passed = dict[str, float](), dict[str, int]()
        for at, owned in group.queues.items():
            held = report.status.ranges.get(at)
            if held is None:
                continue
            lag.add_metric([name, at.topic, str(at.queue)], held.end_offset - max(owned.offset, held.lowest_offset))
            since_ms = report.oldest_unread_at_ms.get(at, now_ms)
            ages[at.topic] = max(ages.get(at.topic, 0.0), (now_ms - since_ms) / 1_000)
            passed[at.topic] = passed.get(at.topic, 0) + owned.offset
        for topic, age in ages.items():
            oldest.add_metric([name, topic], age)
            consumed.add_metric([name, topic], passed[topic])
        leased.add_metric([name], report.status.leases.leased)
        waiting.add_metric([name], report.status.leases.waiting)
        members.add_metric([name], len(group.members))
        dead.add_metric([name], report.dead_letters)
    return iter((lag, oldest, consumed, leased, waiting, members, dead))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
