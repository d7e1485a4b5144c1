"""Durations of syncs: the last minute, and the histogram."""

from pathlib import Path

from broker.log.commit_log import CommitLog
from broker.log.disk import Disk
from broker.log.frame import Kind
from broker.log.sync_times import BUCKETS, Durations, Histogram, SyncTimes


def test_the_last_minute_is_told_by_its_median_its_latest_hundredth_and_its_longest() -> None:
    times = SyncTimes()
    assert times.last_minute(now=0.0) == Durations(0)
    times.add(10.0, 5.0)
    for number in range(100):
        times.add(100.0, number / 8)
    assert times.last_minute(now=150.0) == Durations(100, 50 / 8, 99 / 8, 99 / 8)
    assert times.last_minute(now=160.0) == Durations(0)


def test_more_than_are_kept_leaves_the_latest() -> None:
    times = SyncTimes()
    for _ in range(65_536):
        times.add(1.0, 1.0)
    for _ in range(65_536):
        times.add(2.0, 0.5)
    assert times.last_minute(now=3.0) == Durations(65_536, 0.5, 0.5, 0.5)


def test_the_histogram_counts_all_since_the_start() -> None:
    times = SyncTimes()
    for seconds in (0.0, BUCKETS[0], BUCKETS[1], 2.0):
        times.add(1.0, seconds)
    first, second, *others, last = times.histogram().counts
    assert (first, second, sum(others), last) == (2, 1, 0, 1)
    assert times.histogram().total == BUCKETS[0] + BUCKETS[1] + 2.0


def test_a_log_measures_its_syncs(tmp_path: Path) -> None:
    clock = iter((1.0, 1.5))
    log = CommitLog(tmp_path, Disk(), clock=clock.__next__)
    log.append(Kind.FORGET, [b"a"], 1)
    log.flush()
    log.flush()  # nothing to sync
    log.close()
    assert log.sync_times.last_minute(now=2.0) == Durations(1, 0.5, 0.5, 0.5)
    assert log.sync_times.histogram() == Histogram((*[0] * 10, 1, 0, 0), 0.5)
