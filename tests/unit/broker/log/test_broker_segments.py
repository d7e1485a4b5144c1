"""Segments and their seals, and descriptors that many share."""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.errors import LogDamaged
from broker.log.commit_log import CommitLog, Durability
from broker.log.disk import Disk, OpenFiles
from broker.log.frame import Frame, Kind
from broker.log.record import ENTRY_BYTES
from broker.log.recovery import verify
from broker.log.segment import Seal, Segment
from broker.queues.consume_queue import ConsumeQueue

SEGMENT = 200


def filled(directory: Path, disk: Disk | None = None, durability: Durability = Durability.FSYNC) -> CommitLog:
    """A log of three segments, two of them finished."""
    log = CommitLog(directory, disk or Disk(), SEGMENT, durability)
    for number in range(6):
        log.append(Kind.FORGET, [b"%d" % number * 40], stored_at_ms=number + 1)
        log.flush()
    return log


def test_a_seal_says_what_a_segment_held(tmp_path: Path) -> None:
    log = filled(tmp_path)
    first, second, _ = log.segments
    verified = verify(second)
    assert verified.damages == []
    assert (verified.seal.end, verified.seal.frames) == (second.end, 2)
    assert (verified.seal.first_at_ms, verified.seal.last_at_ms) == (3, 4)
    second.seal(verified.seal)
    assert (first.read_seal(), second.read_seal()) == (None, verified.seal)
    log.close()


def test_a_damaged_seal_is_none(tmp_path: Path) -> None:
    log = filled(tmp_path)
    segment = log.segments[0]
    segment.seal(Seal(1, 2, 3, 4, 5))
    (path,) = tmp_path.glob("*.seal")
    stored = path.read_bytes()
    for at in range(len(stored)):
        path.write_bytes(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :])
        assert segment.read_seal() is None
    log.close()


def test_a_frame_that_was_replaced_by_another_differs_from_the_seal(tmp_path: Path) -> None:
    log = filled(tmp_path)
    segment = log.segments[0]
    seal = verify(segment).seal
    segment.seal(Seal(seal.end, seal.frames, seal.checksum ^ 1, seal.first_at_ms, seal.last_at_ms))
    (damage,) = verify(segment).damages
    assert "seal" in str(damage)
    log.close()


def test_every_damaged_stretch_of_a_segment_is_named(tmp_path: Path) -> None:
    log = CommitLog(tmp_path, Disk(), 1_000)
    positions = [log.append(Kind.FORGET, [b"%d" % number * 40], stored_at_ms=1) for number in range(9)]
    log.flush()
    segment = log.segments[-1]
    for number in (0, 3, 4, 8):
        Disk().write(segment._own(), [b"\xff"], positions[number] + 60)
    assert [damage.fields["position"] for damage in verify(segment).damages] == [positions[n] for n in (0, 3, 8)]
    log.close()


@pytest.mark.parametrize("change", ["cut", "grown", "last"])
def test_an_open_holds_files_against_their_seals(tmp_path: Path, change: str) -> None:
    log = filled(tmp_path)
    for segment in log.segments[:-1]:
        segment.seal(verify(segment).seal)
    log.close()
    files = sorted(tmp_path.glob("*.log"))
    if change == "cut":
        os.truncate(files[1], files[1].stat().st_size - 1)
    elif change == "grown":
        files[1].write_bytes(files[1].read_bytes() + b"x")
    else:
        files[2].unlink()
    log = CommitLog(tmp_path, Disk(), SEGMENT)
    with pytest.raises(LogDamaged, match="sealed"):
        log.check(0)
    log.close()


def test_the_oldest_segments_are_removed_with_their_seals_and_never_the_last(tmp_path: Path) -> None:
    log = filled(tmp_path)
    first, second, last = log.segments
    for segment in (first, second):
        segment.seal(verify(segment).seal)
    assert log.read(first.start, 9)
    assert log.remove_before(second.end - 1) == 1
    assert (log.start, log.read(first.start, 9), len(log.read(second.start, 9))) == (second.start, b"", 9)
    assert log.remove_before(log.written) == 1
    assert [path.name for path in tmp_path.iterdir()] == [last.path.name]
    log.close()
    log = CommitLog(tmp_path, Disk(), SEGMENT)
    found = list[Frame]()
    log.recover(last.start, found.append)
    assert [frame.position for frame in found] == [last.start, last.start + 78]
    log.close()


class LazyDisk(Disk):
    """Counts syncs and remembers what was never synced."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, fd: int) -> None:
        self.syncs += 1
        super().sync(fd)


def test_each_policy_syncs_when_it_says(tmp_path: Path) -> None:
    synced = {}
    for policy in Durability:
        disk, directory = LazyDisk(), tmp_path / policy
        directory.mkdir()
        log = filled(directory, disk, policy)
        synced[policy] = disk.syncs
        assert (log.durable == log.written) == (policy is Durability.FSYNC)
        assert log.segments[-2].end <= log.durable
        log.sync()
        log.sync()
        assert (log.durable, disk.syncs) == (log.written, synced[policy] + (policy is not Durability.FSYNC))
        log.close()
    assert synced == {Durability.FSYNC: 6, Durability.INTERVAL: 2, Durability.OS: 2}


def test_a_tail_that_was_never_synced_may_be_torn_in_its_middle(tmp_path: Path) -> None:
    log = CommitLog(tmp_path, Disk(), 10_000, Durability.OS)
    positions = []
    for number in range(6):
        positions.append(log.append(Kind.FORGET, [b"%d" % number * 40], stored_at_ms=1))
        log.flush()
        if number == 1:
            log.sync()
    log.close()
    (path,) = tmp_path.glob("*.log")
    stored = bytearray(path.read_bytes())
    stored[positions[3] + 50] ^= 1  # a page that did not reach the disk, while later ones did
    path.write_bytes(bytes(stored))
    found = list[Frame]()
    log = CommitLog(tmp_path, Disk(), 10_000, Durability.OS)
    log.recover(0, found.append)
    assert [frame.position for frame in found] == positions[:3]
    log.close()
    stored[positions[1] + 50] ^= 1  # this one had been synced
    path.write_bytes(bytes(stored))
    log = CommitLog(tmp_path, Disk(), 10_000, Durability.OS)
    with pytest.raises(LogDamaged):
        log.recover(0, found.append)
    log.close()


class CountingDisk(Disk):
    """Counts how often each file is opened."""

    def __init__(self) -> None:
        self.opened = list[str]()

    def open(self, path: Path, *, create: bool = True) -> int:
        self.opened.append(path.name)
        return super().open(path, create=create)


def touch(directory: Path, names: Sequence[str]) -> None:
    for name in names:
        (directory / name).write_text(name)


def test_the_least_recently_used_descriptor_is_closed_but_never_one_in_use(tmp_path: Path) -> None:
    disk = CountingDisk()
    touch(tmp_path, "abcd")
    files = OpenFiles(disk, limit=2)
    with files.use(tmp_path / "a") as fd:
        for name in "bcdb":
            with files.use(tmp_path / name) as other:
                assert os.pread(other, 9, 0) == name.encode()
        assert os.pread(fd, 9, 0) == b"a"
    with files.use(tmp_path / "b"), files.use(tmp_path / "a"):
        pass
    assert "".join(disk.opened) == "abcdb"
    files.close()


def test_many_threads_read_what_they_asked_for_through_few_descriptors(tmp_path: Path) -> None:
    names = [f"file-{number}" for number in range(8)]
    touch(tmp_path, names)
    files = OpenFiles(Disk(), limit=2)

    def read(first: int) -> list[tuple[str, bytes]]:
        found = []
        for number in range(first, first + 400):
            name = names[number * (first + 1) % len(names)]
            with files.use(tmp_path / name) as fd:
                found.append((name, os.pread(fd, 99, 0)))
        return found

    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(read, range(6)):
            assert all(name.encode() == content for name, content in found)
    files.close()


def test_queues_hold_no_more_descriptors_than_the_limit(tmp_path: Path) -> None:
    files = OpenFiles(Disk(), limit=3)
    queues = [ConsumeQueue(tmp_path / str(number), files, entries_per_file=2) for number in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    for number, queue in enumerate(queues):
        queue.append(bytes([number]) * 5 * ENTRY_BYTES)
    for number, queue in enumerate(queues):
        assert queue.read(4, 1) == bytes([number]) * ENTRY_BYTES
        queue.sync()
    assert len(os.listdir("/proc/self/fd")) - before <= 3
    files.close()


def test_a_dropped_file_is_closed_when_its_last_user_leaves(tmp_path: Path) -> None:
    touch(tmp_path, "a")
    files = OpenFiles(Disk())
    with files.use(tmp_path / "a") as fd:
        (tmp_path / "a").unlink()
        files.drop(tmp_path / "a")
        assert os.pread(fd, 9, 0) == b"a"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(FileNotFoundError), files.use(tmp_path / "a"):
        pass
    files.close()


class Shrinking(tuple[Segment, ...]):
    """Segments of which the first is deleted when somebody has looked how many there are."""

    log: CommitLog

    def __len__(self) -> int:
        count = super().__len__()
        self.log.remove_before(self[0].end)
        return count


def test_a_reader_finds_its_segment_while_another_one_is_deleted(tmp_path: Path) -> None:
    log = filled(tmp_path)
    second = log.segments[1]
    stored = log.read(second.start, SEGMENT)
    shrinking = Shrinking(log.segments)
    shrinking.log = log
    log._segments = shrinking  # the moment between two looks has no door of its own
    assert log.read(second.start, SEGMENT) == stored != b""
    assert log.start == second.start
    log.close()


def test_what_the_disk_cannot_read_is_lost_and_too_many_open_files_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path)
    for number in (errno.EIO, errno.EMFILE):

        def fail(*_: object, number: int = number) -> bytes:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "pread", fail)
        if number == errno.EIO:
            assert log.read(0, SEGMENT) == b""
        else:
            with pytest.raises(OSError, match="Too many open files"):
                log.read(0, SEGMENT)
    monkeypatch.undo()
    log.close()
