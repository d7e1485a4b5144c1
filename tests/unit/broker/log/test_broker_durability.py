"""What has to be on disk first: messages before they are seen, queues before a checkpoint, names before their use."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.engine.directory import open_directory
from broker.engine.opening import Checkpointer
from broker.log.disk import Disk, OpenFiles
from broker.log.frame import Kind, encode_frame
from broker.log.recovery import read_frames
from broker.log.segment import Segment
from broker.model import LogId
from tests.support.broker_engine import opening, publishing, running_engine


class WatchedDisk(Disk):
    """Tells what is synced, and lets a test look around just before."""

    def __init__(self) -> None:
        self.look: Callable[[], object] = lambda: None
        self.seen: list[object] = []
        self.syncs = 0
        self.syncs_before_replace = 0
        self.directories: set[Path] = set()

    def sync(self, fd: int) -> None:
        self.seen.append(self.look())
        self.syncs += 1
        super().sync(fd)

    def replace(self, path: Path, data: bytes) -> None:
        self.syncs_before_replace = self.syncs
        super().replace(path, data)

    def sync_directory(self, path: Path) -> None:
        self.directories.add(path)
        super().sync_directory(path)


def test_messages_are_not_visible_before_they_are_durable(tmp_path: Path) -> None:
    disk = WatchedDisk()
    with running_engine(tmp_path, disk) as (engine, _):
        disk.look = engine.queues.held
        disk.seen.clear()
        engine.commit([opening("run/a/0", 1, "h"), publishing("run/a/0", 1, "h", 1, b"a", b"b")])
        assert disk.seen == [{}]
        assert [held.end_offset for held in engine.queues.held().values()] == [1, 1]


def test_what_is_found_at_a_start_is_synced_before_it_is_served(tmp_path: Path) -> None:
    with running_engine(tmp_path) as (engine, _):
        engine.commit([opening("run/a/0", 1, "h"), publishing("run/a/0", 1, "h", 1, b"a", b"b")])
    disk = WatchedDisk()
    with running_engine(tmp_path, disk):
        assert disk.syncs == 1


def test_a_checkpoint_is_stored_behind_the_queues_that_it_describes(tmp_path: Path) -> None:
    disk = WatchedDisk()
    with running_engine(tmp_path, disk) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h"), publishing("run/a/0", 1, "h", 1, b"a", b"b")])
        disk.syncs = 0
        Checkpointer(engine, directory, disk, 1, die=pytest.fail).close()
        assert disk.syncs_before_replace == len(engine.queues.held()) == 2


def test_names_that_a_killed_process_left_are_durable_before_they_count(tmp_path: Path) -> None:
    open_directory(tmp_path, Disk(), lambda: LogId("log")).release()
    disk = WatchedDisk()
    directory = open_directory(tmp_path, disk)
    directory.release()
    assert disk.directories >= {tmp_path, directory.log, directory.queues}


class StrictSegment(Segment):
    """Refuses reads beyond its end."""

    def read(self, position: int, size: int) -> bytes:
        assert position + size <= self.end
        return super().read(position, size)


def test_a_torn_frame_of_any_length_costs_no_more_memory_than_there_is_log(tmp_path: Path) -> None:
    whole = b"".join(encode_frame(Kind.FORGET, [b"a"], position=0, durable=0, stored_at_ms=1))
    torn = encode_frame(Kind.FORGET, [b"b"], position=len(whole), durable=0, stored_at_ms=1)[0]
    segment = StrictSegment.open(tmp_path, 0, OpenFiles(Disk()))
    segment.append([whole, b"\xff" * 4, torn[4:]], len(whole) + len(torn))
    assert [frame.payload for frame in read_frames(segment, 0)] == [b"a"]
    segment.close()
