"""Bytes that changed on disk are found and named, and never served."""

from pathlib import Path

import pytest

from broker.delivery.reader import read_batch
from broker.engine.engine import Engine
from broker.errors import RecordDamaged
from broker.log.segment import Segment
from broker.model import Fetched, QueueKey
from tests.support.broker_engine import TOPIC, opening, publishing, running_engine

FIRST_QUEUE = QueueKey(TOPIC.topic_id, 0)


def read(engine: Engine, offset: int) -> Fetched:
    queue = engine.queues.queue(FIRST_QUEUE)
    return read_batch(engine.log, queue, TOPIC.topic_id, offset, max_messages=100, max_bytes=1 << 20)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    with path.open("r+b") as file:
        file.write(data)


def test_a_fetch_ends_before_a_damaged_record_and_fails_at_it(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        bodies = [b"one", b"-", b"two", b"-", b"three", b"-"]  # the first queue gets every other run
        engine.commit([opening("run/a/0", 1, "h"), publishing("run/a/0", 1, "h", 1, *bodies)])
        stored = [*read(engine, 0).bodies]
        (segment,) = (tmp_path / "log").glob("*.log")
        flip(segment, segment.read_bytes().index(stored[1]))
        assert [*read(engine, 0).bodies] == stored[:1]
        with pytest.raises(RecordDamaged) as damaged:
            read(engine, 1)
        assert (damaged.value.fields["offset"], damaged.value.fields["path"]) == (1, segment)
        assert [*read(engine, 2).bodies] == stored[2:]


def test_what_the_disk_cannot_give_back_is_as_lost_as_what_it_gives_back_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_segment: Segment, _position: int, _size: int) -> bytes:
        raise OSError(5, "Input/output error")

    with running_engine(tmp_path) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), publishing("run/a/0", 1, "h", 1, b"one")])
        monkeypatch.setattr(Segment, "read", fail)
        with pytest.raises(RecordDamaged):
            read(engine, 0)
