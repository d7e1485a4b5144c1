"""A data directory of which files are missing, or cannot be read: opened right, or refused with a clear sentence."""

import errno
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from broker.delivery.retention.retiring import Retired, RetireMessages
from broker.engine.directory import open_directory
from broker.engine.opening import Checkpointer, open_engine
from broker.errors import LogDamaged, QueueDamaged
from broker.face.upkeep.retention import Keep, Sweeping
from broker.log.disk import Disk
from broker.log.record import ENTRY_BYTES
from broker.model import Opened, QueueKey
from broker.queues.topic_file import Stored, write_topics
from broker.queues.topics import Topics
from protos.errors import DirectoryUnusable
from tests.support.broker_engine import LIMITS, TOPIC, bodies_of, opening, publishing, running_engine

KEYS = [QueueKey(TOPIC.topic_id, number) for number in range(2)]
STORED = [b"%d" % sequence for sequence in range(1, 30)]


def fill(path: Path, *, deletes: bool = False) -> None:
    """A clean stop; the first segments are gone if it `deletes`."""
    with running_engine(path) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence, body in enumerate(STORED, 1):
            engine.commit([publishing("run/a/0", 1, "h", sequence, body)])
        checkpointer = Checkpointer(engine, directory, Disk(), 1, die=pytest.fail)
        if deletes:
            keep = Keep(None, 1, timedelta())
            sweeping = Sweeping(engine, checkpointer, keep)
            (retired,) = engine.commit([RetireMessages(sweeping.outlived(0), keep.groups_hold_for)]).answers
            assert isinstance(retired, Retired)
            checkpointer.consider()
            assert sweeping.delete(retired, 0) > 0
        checkpointer.close()


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "lost", [["checkpoint.json"], ["queues"], ["delays.sqlite"], ["checkpoint.json", "queues", "delays.sqlite"]]
)
def test_what_is_derived_is_made_again_from_a_whole_log(tmp_path: Path, lost: Sequence[str]) -> None:
    fill(tmp_path)
    for name in lost:
        remove(tmp_path / name)
    with running_engine(tmp_path) as (engine, _):
        assert sorted(body for key in KEYS for body in bodies_of(engine, key)) == sorted(STORED)
        assert engine.commit([opening("run/a/0", 1, "h")]).answers[0] == Opened(len(STORED), None)


def test_a_lost_checkpoint_is_refused_where_the_log_does_not_hold_everything_any_more(tmp_path: Path) -> None:
    fill(tmp_path, deletes=True)
    remove(tmp_path / "checkpoint.json")
    with pytest.raises(LogDamaged, match="the checkpoint is missing"), running_engine(tmp_path):
        pass


def reopen(path: Path, disk: Disk) -> None:
    """Opens it as the daemon does, and lets it go again."""
    directory = open_directory(path, disk)
    try:
        topics = Topics(directory.topics, disk, pytest.fail)
        open_engine(directory, disk, LIMITS, lambda: 0, topics).close()
    finally:
        directory.release()


@pytest.mark.parametrize("has_checkpoint", [True, False])
@pytest.mark.parametrize("has_old_topics", [True, False])
def test_lost_topics_are_refused_and_what_is_stored_stays(
    tmp_path: Path, has_checkpoint: bool, has_old_topics: bool
) -> None:
    fill(tmp_path)
    path = tmp_path / "topics.json"
    topics = path.read_bytes()
    path.unlink()
    if has_old_topics:
        write_topics(path, Stored(), Disk())
    if not has_checkpoint:
        remove(tmp_path / "checkpoint.json")
    for _ in range(2):
        with pytest.raises(DirectoryUnusable, match=r"does not know topic 1 of the log: it is missing, or older"):
            reopen(tmp_path, Disk())
    path.write_bytes(topics)
    with running_engine(tmp_path) as (engine, _):
        assert sorted(body for key in KEYS for body in bodies_of(engine, key)) == sorted(STORED)


def test_a_lost_log_id_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    remove(tmp_path / "meta.json")
    with pytest.raises(DirectoryUnusable, match=r"meta.json is missing"):
        reopen(tmp_path, Disk())


class SickDisk(Disk):
    """Fails at its n-th operation, and with all that follow."""

    def __init__(self, number: int) -> None:
        self.left = number

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "Input/output error")

    def open(self, path: Path, *, create: bool = True) -> int:
        self._count()
        return super().open(path, create=create)

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> None:
        self._count()
        super().write(fd, buffers, at)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        self._count()
        super().sync_directory(path)

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)


def test_a_disk_that_fails_while_a_broker_starts_is_told_in_a_sentence(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("checkpoint.json", "delays.sqlite"):
        remove(tmp_path / name)
    failures, is_open = 0, False
    while not is_open:
        try:
            reopen(tmp_path, SickDisk(failures))
            is_open = True
        except DirectoryUnusable:
            failures += 1
    assert failures > 5


def test_an_index_of_delayed_messages_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    fill(tmp_path)
    remove(tmp_path / "delays.sqlite")
    (tmp_path / "delays.sqlite").mkdir()
    with pytest.raises(DirectoryUnusable):
        reopen(tmp_path, Disk())


def test_an_entry_that_points_at_another_whole_record_is_not_served_and_made_again(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "queues" / "1" / "0" / f"{0:020}"
    entries = path.read_bytes()
    path.write_bytes(entries[ENTRY_BYTES : 2 * ENTRY_BYTES] * 2 + entries[2 * ENTRY_BYTES :])
    with running_engine(tmp_path) as (engine, _), pytest.raises(QueueDamaged) as refused:
        bodies_of(engine, KEYS[0])
    remove(Path(str(refused.value.fields["path"])))
    with running_engine(tmp_path) as (engine, _):
        assert sorted(body for key in KEYS for body in bodies_of(engine, key)) == sorted(STORED)
