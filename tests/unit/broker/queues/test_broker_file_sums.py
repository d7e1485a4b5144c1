"""A queue's files are held against what the checkpoint says of them before they are first used after a start."""

from pathlib import Path

import pytest

from broker.errors import QueueDamaged
from broker.log.disk import Disk, OpenFiles
from broker.log.record import ENTRY_BYTES
from broker.model import QueueRange
from broker.queues.consume_queue import ConsumeQueue

PER_FILE = 4
ENTRIES = [bytes([number]) * ENTRY_BYTES for number in range(1, 30)]


def new_queue(path: Path) -> ConsumeQueue:
    return ConsumeQueue(path / "0", OpenFiles(Disk()), PER_FILE)


def stop_and_start(path: Path, queue: ConsumeQueue) -> ConsumeQueue:
    again = new_queue(path)
    assert again.restore(QueueRange(queue.lowest, queue.end), queue.sums.stored())
    return again


def append(queue: ConsumeQueue, count: int) -> None:
    for _ in range(count):
        queue.append(ENTRIES[queue.end])


def read_all(queue: ConsumeQueue) -> list[bytes]:
    return [queue.read(offset, 1) for offset in range(queue.lowest, queue.end)]


@pytest.mark.parametrize("at", range(0, 10 * ENTRY_BYTES, 7))
def test_any_flipped_byte_is_found_and_the_other_files_are_served(tmp_path: Path, at: int) -> None:
    queue = new_queue(tmp_path)
    append(queue, 10)
    file, at_there = divmod(at, PER_FILE * ENTRY_BYTES)
    path = tmp_path / "0" / f"{file * PER_FILE:020}"
    data = bytearray(path.read_bytes())
    data[at_there] ^= 4
    path.write_bytes(data)
    queue = stop_and_start(tmp_path, queue)
    for offset in range(10):
        if offset // PER_FILE != file:
            assert queue.read(offset, 1) == ENTRIES[offset]
        else:
            for _ in range(2):
                with pytest.raises(QueueDamaged):
                    queue.read(offset, 1)


def test_a_queue_that_goes_on_after_each_start_is_sound(tmp_path: Path) -> None:
    queue = new_queue(tmp_path)
    for count in (1, 2, 3, 0, 5):
        append(queue, count)
        queue = stop_and_start(tmp_path, queue)
        append(queue, 1)
        assert read_all(queue) == ENTRIES[: queue.end]


def test_a_queue_that_was_emptied_goes_on_without_what_is_gone(tmp_path: Path) -> None:
    queue = new_queue(tmp_path)
    append(queue, 6)
    queue.drop_before(6)
    queue = stop_and_start(tmp_path, queue)
    append(queue, 4)
    queue = stop_and_start(tmp_path, queue)
    assert read_all(queue) == ENTRIES[6:10]


def test_what_is_retired_is_checked_no_more(tmp_path: Path) -> None:
    queue = new_queue(tmp_path)
    append(queue, 10)
    queue.drop_before(5)
    queue = stop_and_start(tmp_path, queue)
    assert [first for first, *_ in queue.sums.stored()] == [4, 8]
    queue.drop_before(8)
    queue.sweep(8)
    assert [first for first, *_ in queue.sums.stored()] == [8]
