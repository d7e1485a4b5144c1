"""The bytes of a topic against lists: what goes is the oldest over all queues, and no more than has to."""

from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.delivery.retention import topic_bytes
from broker.delivery.retention.topic_bytes import TopicBytes
from broker.log.disk import Disk
from broker.log.record import Records, encode_entries
from broker.model import QueueKey, TopicId
from broker.queues.builder import QueueBuilder

QUEUES = [QueueKey(TopicId(1), 0), QueueKey(TopicId(1), 1)]
STEPS = st.lists(st.one_of(st.tuples(st.sampled_from(QUEUES), st.integers(1, 9)), st.integers(0, 60)), max_size=30)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_bytes, "BLOCK", 3)


@settings(deadline=None)
@given(STEPS)
def test_a_topic_over_its_limit_loses_its_oldest_messages(steps: list[tuple[QueueKey, int] | int]) -> None:
    with TemporaryDirectory() as path:
        builder = QueueBuilder(Path(path), Disk())
        counting, stored, position = TopicBytes(), list[tuple[QueueKey, int]](), 0
        for step in steps:
            if isinstance(step, tuple):
                key, size = step
                builder.add(key, encode_entries(Records(b"", [size], [0], [0]), position))
                builder.show()
                stored.append(step)
                position += size
            else:
                kept = _within(stored, step)
                lowest = counting.outlived({key: builder.queue(key) for key in QUEUES}, step)
                for key in QUEUES:
                    assert builder.queue(key).end - lowest[key] == sum(known == key for known, _ in kept)
                    builder.queue(key).drop_before(lowest[key])
                    builder.queue(key).sweep(lowest[key])
                stored = kept
        builder.close()


def _within(stored: list[tuple[QueueKey, int]], limit: int) -> list[tuple[QueueKey, int]]:
    sizes = [size for _, size in stored]
    too_much = [*accumulate(sizes, initial=0)]
    gone = next(number for number, size in enumerate(too_much) if sum(sizes) - size <= limit)
    return stored[gone:]
