"""What looks after the log: the scrubber, the syncer, room on the disk."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from broker.errors import DiskFull, LogDamaged
from broker.log.commit_log import CommitLog, Durability
from broker.log.disk import Disk
from broker.log.frame import Kind
from broker.log.segment import Segment
from broker.log.upkeep import scrubber as scrubbing
from broker.log.upkeep.background import Background
from broker.log.upkeep.scrubber import Scrubber
from broker.log.upkeep.space import Space
from broker.log.upkeep.syncer import Syncer


def never(_seconds: float) -> bool:
    return False


def add(log: CommitLog, frames: int) -> None:
    for _ in range(frames):
        log.append(Kind.FORGET, [b"x" * 40], stored_at_ms=1)
        log.flush()


def seals(path: Path) -> list[str]:
    return sorted(file.stem for file in path.glob("*.seal"))


def flip(path: Path) -> None:
    stored = bytearray(path.read_bytes())
    stored[60] ^= 1
    with path.open("r+b") as file:
        file.write(stored)


def test_each_finished_segment_is_read_once_and_sealed(tmp_path: Path) -> None:
    log = CommitLog(tmp_path, Disk(), 200)
    add(log, 5)
    scrubber = Scrubber(log, pytest.fail)
    assert (scrubber.run_once(never), scrubber.run_once(never)) == (2, 0)
    add(log, 2)
    assert scrubber.run_once(never) == 1
    assert seals(tmp_path) == [segment.path.stem for segment in log.segments[:-1]]
    assert scrubber.damages == ()
    log.close()


def test_damage_is_told_and_gets_no_seal(tmp_path: Path) -> None:
    log, told = CommitLog(tmp_path, Disk(), 200), list[LogDamaged]()
    add(log, 5)
    first, second, _ = log.segments
    flip(second.path)
    scrubber = Scrubber(log, told.append)
    assert scrubber.run_once(never) == 2
    assert [damage.fields["position"] for damage in told] == [second.start]
    assert scrubber.damages == (*told,)
    assert seals(tmp_path) == [first.path.stem]
    log.close()


class ShrinkingLog(CommitLog):
    """Loses its first segment behind the first look at all of them."""

    looks = 0

    @property
    def segments(self) -> Sequence[Segment]:
        self.looks += 1
        return super().segments if self.looks == 1 else super().segments[1:]


def test_a_segment_that_is_gone_is_no_damage(tmp_path: Path) -> None:
    log = ShrinkingLog(tmp_path, Disk(), 200)
    add(log, 5)
    min(tmp_path.glob("*.log")).unlink()
    scrubber = Scrubber(log, pytest.fail)
    scrubber.run_once(never)
    assert scrubber.damages == ()
    log.close()


def test_a_seal_that_cannot_be_stored_is_told(tmp_path: Path) -> None:
    class FullDisk(Disk):
        def replace(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    log, told = CommitLog(tmp_path, FullDisk(), 200), list[LogDamaged]()
    add(log, 3)
    Scrubber(log, told.append).run_once(never)
    assert "No space left" in str(told[0])
    log.close()


def test_the_scrubber_rests_between_steps_and_ends_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "_STEP_BYTES", 100)
    log, rests = CommitLog(tmp_path, Disk(), 400), list[float]()
    add(log, 12)

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return len(rests) == 3

    scrubber = Scrubber(log, pytest.fail)
    assert scrubber.run_once(rest) == 1
    assert len(seals(tmp_path)) == 1
    assert rests == [156 / scrubbing.BYTES_PER_SECOND] * 3
    assert scrubber.run_once(never) == len(log.segments) - 2
    log.close()


def test_the_syncer_makes_durable_what_was_written(tmp_path: Path) -> None:
    log = CommitLog(tmp_path, Disk(), 1_000, Durability.INTERVAL)
    waits = list[float]()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 2

    add(log, 2)
    assert log.durable == 0
    Syncer(log, timedelta(milliseconds=250)).run(wait)
    assert (log.durable, waits) == (log.written, [0.25, 0.25])
    log.close()


def test_an_exception_in_the_background_ends_the_process() -> None:
    died = list[BaseException]()
    background = Background(died.append)

    def fail(_wait: object) -> None:
        raise OSError("broken")

    background.start("failing", fail)
    background.start("waiting", lambda wait: pytest.fail("it must wait") if not wait(60) else None)
    background.stop()
    assert [str(error) for error in died] == ["broken"]


class SmallDisk(Disk):
    """Has as many bytes left as it is told, and counts how often it is asked."""

    def __init__(self) -> None:
        self.left = 1_000
        self.looks = 0

    def free(self, path: Path) -> int:
        self.looks += 1
        return self.left


def test_new_messages_are_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    disk, now = SmallDisk(), [10.0]
    space = Space(disk, tmp_path, 900, lambda: now[0])
    space.check()
    disk.left = 899
    space.check()  # looked at less than a second ago
    assert disk.looks == 1
    now[0] += 1
    with pytest.raises(DiskFull) as refused:
        space.check()
    assert (refused.value.fields["free"], refused.value.fields["reserve"]) == (899, 900)
    disk.left = 900
    now[0] += 1
    space.check()
    assert disk.looks == 3


def test_the_space_of_a_real_disk_is_known(tmp_path: Path) -> None:
    assert 0 < Disk().free(tmp_path) < 1 << 60
