"""What is found of an engine by time and by key, against lists; clocks may go back, and the engine may crash."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.delivery.finding import Finder
from broker.delivery.reader import read_batch
from broker.engine.commands import StorePublish
from broker.engine.engine import Engine
from broker.log.disk import Disk
from broker.log.index.log_index import LogIndex
from broker.model import HolderId, ProducerId, QueueKey, TopicBatch
from broker.queues.consume_queue import ConsumeQueue
from broker.queues.encoding import encode_batch
from broker.queues.finding import offset_at
from tests.support.broker_engine import TOPIC, opening, running_engine

KEYS = st.lists(st.sampled_from([b"", b"a", b"b"]), min_size=1, max_size=4)
PUBLISHES = st.lists(st.tuples(st.integers(1, 9), KEYS), max_size=12)


def store(engine: Engine, sequence: int, at_ms: int, keys: list[bytes]) -> None:
    bodies = [b"%d/%d" % (sequence, number) for number in range(len(keys))]
    runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, bodies, keys), 0, at_ms)
    command = StorePublish(ProducerId("run/a/0"), 1, HolderId("h"), sequence, None, runs, at_ms)
    engine.commit([command])


def check(engine: Engine, publishes: list[tuple[int, list[bytes]]]) -> None:
    queues = [engine.queues.queue(QueueKey(TOPIC.topic_id, number)) for number in range(TOPIC.read_queues)]
    finder = Finder(engine.log, engine.log_index)
    for key in (b"a", b"b", b"c"):
        found = finder.find(TOPIC.topic_id, queues, key, 1_000)
        sequences = [number for number, (_, keys) in enumerate(publishes, 1) for own in keys if own == key]
        assert [int(message.body.split(b"/")[0]) for message in found] == sequences[::-1]
        assert len({(message.queue, message.offset) for message in found}) == len(found)
    for at_ms in range(11):
        first = next((number for number, (stored_ms, _) in enumerate(publishes, 1) if stored_ms >= at_ms), 100)
        for queue in queues:
            sequences = sequences_of(engine, queue)
            expected = next((offset for offset, sequence in enumerate(sequences) if sequence >= first), queue.end)
            assert offset_at(engine.log_index, queue, at_ms) == expected


def sequences_of(engine: Engine, queue: ConsumeQueue) -> list[int]:
    if not queue.end:
        return []
    fetched = read_batch(engine.log, queue, TOPIC.topic_id, 0, max_messages=100, max_bytes=1 << 20)
    return [int(body.split(b"/")[0]) for body in fetched.bodies]


@settings(deadline=None, max_examples=40)
@given(PUBLISHES)
def test_time_and_key_lead_to_what_lists_say(publishes: list[tuple[int, list[bytes]]]) -> None:
    with TemporaryDirectory() as path:
        with running_engine(Path(path), clock=lambda: 0) as (engine, _):
            engine.commit([opening("run/a/0", 1, "h")])
            for sequence, (at_ms, keys) in enumerate(publishes, 1):
                store(engine, sequence, at_ms, keys)
            check(engine, publishes)
        with running_engine(Path(path), clock=lambda: 0) as (engine, _):
            check(engine, publishes)


class CountingLog(LogIndex):
    """Tells how far a search went."""

    looked = 0

    def positions_of(self, topic_id: int, key: bytes) -> Iterator[int]:
        for position in super().positions_of(topic_id, key):
            self.looked += 1
            yield position


def test_a_search_ends_where_the_topic_begins(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence in range(1, 11):
            store(engine, sequence, 5, [b"a"])
        [queue] = (known for number in range(2) if (known := engine.queues.queue(QueueKey(TOPIC.topic_id, number))).end)
        counting = CountingLog(engine.log, Disk())
        counting.restore(None, engine.log.written)
        for lowest, looked in ((8, 3), (10, 1)):
            queue.drop_before(lowest)
            counting.looked = 0
            assert len(Finder(engine.log, counting).find(TOPIC.topic_id, [queue], b"a", 100)) == 10 - lowest
            assert counting.looked == looked
        counting.close()


def test_what_is_gone_is_not_found(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence in range(1, 5):
            store(engine, sequence, 5, [b"a"])
        [queue] = (known for number in range(2) if (known := engine.queues.queue(QueueKey(TOPIC.topic_id, number))).end)
        found = Finder(engine.log, engine.log_index).find(TOPIC.topic_id, [queue], b"a", 100, {0, 2})
        assert [message.offset for message in found] == [3, 1]
