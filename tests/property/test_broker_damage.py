"""A byte that changed anywhere in the stored log: found by the open, a fetch or the scrubber, and never served."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.delivery.reader import read_batch
from broker.engine.engine import Engine
from broker.engine.opening import Checkpointer
from broker.errors import LogDamaged, RecordDamaged
from broker.log.disk import Disk
from broker.log.recovery import verify
from broker.log.upkeep.scrubber import Scrubber
from broker.model import QueueKey
from tests.support.broker_engine import TOPIC, opening, publishing, running_engine

QUEUES = [QueueKey(TOPIC.topic_id, queue) for queue in range(2)]
Stored = dict[QueueKey, list[bytes]]


def stored_log(path: Path, *, with_checkpoint: bool) -> Stored:
    """A log of several sealed segments, and what its queues hold."""
    with running_engine(path) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence in range(1, 7):
            bodies = [b"%d/%d" % (sequence, number) for number in range(6)]
            engine.commit([publishing("run/a/0", 1, "h", sequence, *bodies, cursor=b"%d" % sequence)])
        if with_checkpoint:
            Checkpointer(engine, directory, Disk(), 1, die=pytest.fail).close()
        Scrubber(engine.log, pytest.fail).run_once(lambda _: False)
        return {key: [body for _, body in served(engine, key)] for key in QUEUES}


def served(engine: Engine, key: QueueKey) -> Iterator[tuple[int, bytes]]:
    """(offset, body) of all that the queue gives, around what is damaged."""
    queue = engine.queues.queue(key)
    offset = queue.lowest
    while offset < queue.end:
        try:
            bodies = read_batch(engine.log, queue, key.topic_id, offset, max_messages=4, max_bytes=1 << 20).bodies
        except RecordDamaged:
            bodies = [b"damaged"]
        yield from enumerate(bodies, offset)
        offset += len(bodies)


@contextmanager
def opened(path: Path) -> Iterator[Engine | None]:
    """The engine; None if its log is refused."""
    try:
        with running_engine(path) as (engine, _):
            yield engine
    except LogDamaged:
        yield None


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.integers(0, 1 << 30), st.integers(1, 255))
def test_a_flipped_byte_of_the_log_is_found_and_never_served(with_checkpoint: bool, where: int, flip: int) -> None:
    with TemporaryDirectory() as path:
        stored = stored_log(Path(path), with_checkpoint=with_checkpoint)
        files = sorted((Path(path) / "log").glob("*.log"))
        assert len(files) > 3
        where %= sum(file.stat().st_size for file in files)
        for file in files:
            size = file.stat().st_size
            if where < size:
                break
            where -= size
        data = bytearray(file.read_bytes())
        data[where] ^= flip
        file.write_bytes(data)
        with opened(Path(path)) as engine:
            if engine is None:
                return
            found = any(verify(segment).damages for segment in engine.log.segments)
            for key in QUEUES:
                given = [*served(engine, key)]
                found |= any(body == b"damaged" for _, body in given)
                assert all(body in (b"damaged", stored[key][offset]) for offset, body in given)
            # Nothing says that the last group had been durable but a checkpoint: there it is what a crash tore.
            is_torn_tail = not with_checkpoint and file == files[-1] and file.stat().st_size < len(data)
            assert found or is_torn_tail
