"""Tag filters: what they let through, how far they look, and what they do about damage."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from broker.delivery.filtering import Filter, read_tagged
from broker.engine.commands import StorePublish
from broker.engine.engine import Engine
from broker.errors import RecordDamaged
from broker.log.record import decode_entries
from broker.model import Attributes, Fetched, HolderId, ProducerId, QueueKey, TopicBatch
from broker.queues.encoding import encode_batch
from tests.support.broker_engine import TOPIC, opening, running_engine

KEY = QueueKey(TOPIC.topic_id, 0)
ALIKE = (b"plumless", b"buckeroo")  # the same CRC-32


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running_engine(tmp_path, segment=1 << 20) as (engine, _):
        engine.commit([opening("producer/a", 1, "h")])
        yield engine


def publish(engine: Engine, tags: Sequence[bytes]) -> None:
    """Message n has the body n, and a property where n is 2."""
    bodies = [b"%d" % number for number in range(len(tags))]
    batch = TopicBatch(TOPIC.name, bodies, tags=tags, attributes={2: Attributes({"colour": "red"})}, queue=0)
    runs = encode_batch(0, TOPIC, batch, 0, 5)
    engine.commit([StorePublish(ProducerId("producer/a"), 1, HolderId("h"), 1, None, runs, 5)])


def read(
    engine: Engine, *tags: bytes, offset: int = 0, most: int = 100, size: int = 1 << 20, scan: int = 100
) -> Fetched:
    wanted = Filter(frozenset(tags), most, size)
    return read_tagged(engine.log, engine.queues.queue(KEY), TOPIC.topic_id, offset, wanted, scan=scan)


def test_only_messages_with_one_of_the_tags_are_read(engine: Engine) -> None:
    publish(engine, [b"a", b"b", b"a", b"c", b"", b"b"])
    found = read(engine, b"a", b"c")
    assert [*found.bodies] == [b"0", b"2", b"3"]
    assert [*found.offsets] == [0, 2, 3]
    assert [*found.tags] == [b"a", b"a", b"c"]
    assert {at: given.properties for at, given in found.attributes.items()} == {1: {"colour": "red"}}
    assert (found.first_offset, found.next_offset, found.end_offset) == (0, 6, 6)
    assert [*found.published_at_ms] == [5] * 3


def test_consecutive_messages_need_no_offsets(engine: Engine) -> None:
    publish(engine, [b"a", b"b", b"b"])
    found = read(engine, b"b")
    assert (found.first_offset, [*found.bodies], [*found.offsets]) == (1, [b"1", b"2"], [])


def test_tags_of_the_same_hash_are_told_apart(engine: Engine) -> None:
    assert zlib.crc32(ALIKE[0]) == zlib.crc32(ALIKE[1])
    publish(engine, [*ALIKE, ALIKE[0]])
    assert [*read(engine, ALIKE[1]).bodies] == [b"1"]
    nothing = read(engine, ALIKE[1], offset=2)
    assert ([*nothing.bodies], nothing.next_offset) == ([], 3)


def test_a_filter_that_matches_nothing_moves_on_as_far_as_it_looked(engine: Engine) -> None:
    publish(engine, [b"a"] * 10)
    found = read(engine, b"b", offset=2, scan=5)
    assert ([*found.bodies], found.next_offset) == ([], 7)
    assert read(engine, b"b", offset=7, scan=5).next_offset == 10


def test_a_full_answer_ends_before_the_next_match(engine: Engine) -> None:
    publish(engine, [b"a", b"b", b"a", b"b", b"a"])
    found = read(engine, b"a", most=2)
    assert ([*found.bodies], found.next_offset) == ([b"0", b"2"], 4)
    small = read(engine, b"a", size=1)
    assert ([*small.bodies], small.next_offset) == ([b"0"], 2)
    assert [*read(engine, b"a", offset=small.next_offset, size=1).bodies] == [b"2"]


def test_a_damaged_message_ends_the_answer_and_is_refused_when_it_is_the_first(engine: Engine) -> None:
    publish(engine, [b"a", b"b", b"a", b"b", b"a"])
    (position, size, _), *_ = decode_entries(engine.queues.queue(KEY).read(2, 1))
    with engine.log.path_of(position).open("r+b") as file:
        file.seek(position + size - 1)
        file.write(b"?")
    found = read(engine, b"a")
    assert ([*found.bodies], found.next_offset) == ([b"0"], 2)
    with pytest.raises(RecordDamaged):
        read(engine, b"a", offset=found.next_offset)
    assert [*read(engine, b"b").bodies] == [b"1", b"3"]
