"""Runs that were placed before their topics changed."""

from dataclasses import replace
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from broker.log.record import Piece, decode_records
from broker.model import Attributes, Topic, TopicBatch, TopicId, TopicName
from broker.queues.altered.replacing import placed
from broker.queues.encoding import EncodedRun, encode_batch

TOPIC = Topic(TopicName("t"), TopicId(1), 4, 4)
NOW_MS = 1_000


def bodies_by_queue(runs: list[EncodedRun]) -> dict[int, list[bytes]]:
    """What each queue gets, in order."""
    got = dict[int, list[bytes]]()
    for run in runs:
        starts = [sum(run.records.sizes[:at]) for at in range(len(run.records.sizes))]
        columns, _ = decode_records([Piece(run.records.data, starts, run.records.sizes)])
        got.setdefault(run.key.queue, []).extend(columns.bodies)
    return got


def test_what_still_stands_is_not_touched() -> None:
    runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, [b"a", b"b"], [b"k", b"l"]), 0, NOW_MS)
    assert placed(runs, {TOPIC.topic_id: TOPIC}.get) is runs


@given(
    st.lists(st.sampled_from([b"", b"a", b"b", b"c", b"d"]), min_size=1, max_size=20),
    st.sampled_from([1, 2, 8, 12]),
    st.sets(st.integers(0, 19)),
)
def test_keys_go_where_they_belong_now_with_all_that_they_have(keys: list[bytes], queues: int, late: set[int]) -> None:
    count = len(keys)
    bodies = [b"%d" % number for number in range(count)]
    attributes = {at: Attributes(deliver_at_ms=NOW_MS + 1 + at) for at in late if at < count}
    runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, bodies, keys, [b"x"], attributes), 0, NOW_MS)
    again = placed(runs, {TOPIC.topic_id: replace(TOPIC, write_queues=queues, read_queues=queues)}.get)
    assert sorted(index for run in again for index in run.indexes) == [*range(count)]
    for run in again:
        assert len(run.records.sizes) == len(run.indexes) == len(run.records.tag_hashes)
        assert [*run.dues] == [NOW_MS + 1 + index for index in run.indexes if index in attributes]
        for index in run.indexes:
            if keys[index]:
                assert run.key.queue == crc32(keys[index]) % queues
    for chosen in bodies_by_queue([run for run in again if not run.dues]).values():
        for key in set(keys) - {b""}:
            of_key = [int(body) for body in chosen if keys[int(body)] == key]
            assert of_key == sorted(of_key)


def test_a_chosen_queue_stays_while_it_is_there() -> None:
    runs = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, [b"a"], [b"k"], queue=3), 0, NOW_MS)
    assert placed(runs, {TOPIC.topic_id: replace(TOPIC, write_queues=8)}.get) is runs
    (run,) = placed(runs, {TOPIC.topic_id: replace(TOPIC, write_queues=2)}.get)
    assert run.key.queue == 1


def test_what_belongs_to_a_deleted_topic_is_left_out() -> None:
    other = replace(TOPIC, topic_id=TopicId(2))
    runs = [
        *encode_batch(0, TOPIC, TopicBatch(TOPIC.name, [b"gone"]), 0, NOW_MS),
        *encode_batch(1, other, TopicBatch(TOPIC.name, [b"kept"]), 0, NOW_MS),
    ]
    (run,) = placed(runs, {other.topic_id: other}.get)
    assert (run.batch, run.key.topic_id, run.indexes) == (1, other.topic_id, [0])
