"""Opening a data directory: one process at a time, one format, and after a clean stop next to nothing to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from broker.engine.directory import open_directory
from broker.engine.opening import Checkpointer
from broker.log.disk import Disk
from broker.log.upkeep.scrubber import Scrubber
from protos.errors import DirectoryInUse, DirectoryUnusable
from tests.support.broker_engine import opening, publishing, running_engine

_TRY = """
import sys
from pathlib import Path
from broker.engine.directory import open_directory
from broker.log.disk import Disk
from protos.errors import DirectoryInUse
try:
    open_directory(Path(sys.argv[1]), Disk())
except DirectoryInUse:
    sys.exit(3)
"""


def open_elsewhere(path: Path) -> int:
    """The exit code of another process that tries to open the directory; 3 if that is in use."""
    return subprocess.run([sys.executable, "-c", _TRY, path], check=False).returncode


def test_a_directory_is_held_by_one_process_until_it_is_released(tmp_path: Path) -> None:
    directory = open_directory(tmp_path, Disk())
    with pytest.raises(DirectoryInUse):
        open_directory(tmp_path, Disk())
    assert open_elsewhere(tmp_path) == 3
    directory.release()
    assert open_elsewhere(tmp_path) == 0  # and it was released by its end
    open_directory(tmp_path, Disk()).release()


def test_a_directory_of_another_format_is_refused_and_not_held(tmp_path: Path) -> None:
    open_directory(tmp_path, Disk()).release()
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_bytes()), "format": 1}))
    for _ in range(2):
        with pytest.raises(DirectoryUnusable, match="its format is 1"):
            open_directory(tmp_path, Disk())


class WatchedDisk(Disk):
    """Remembers which files were opened, and which were synced or cut."""

    def __init__(self) -> None:
        self.opened = list[Path]()
        self.cuts = 0

    def open(self, path: Path, *, create: bool = True) -> int:
        self.opened.append(path)
        return super().open(path, create=create)

    def truncate(self, fd: int, size: int) -> None:
        self.cuts += 1
        super().truncate(fd, size)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_after_a_clean_stop_only_the_last_segment_is_opened(tmp_path: Path, is_sealed: bool) -> None:
    with running_engine(tmp_path) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence in range(1, 30):
            engine.commit([publishing("run/a/0", 1, "h", sequence, b"a" * 60, b"b" * 60)])
        Checkpointer(engine, directory, Disk(), 1, die=pytest.fail).close()
        if is_sealed:
            Scrubber(engine.log, pytest.fail).run_once(lambda _: False)
        last = engine.log.segments[-1].path
        assert len(engine.log.segments) > 5
    disk = WatchedDisk()
    with running_engine(tmp_path, disk) as (engine, _):
        assert [path for path in disk.opened if path.suffix != ""] == [last]
        assert not [path for path in disk.opened if tmp_path / "queues" in path.parents]
        assert disk.cuts == 0
        assert sum(held.end_offset for held in engine.queues.held().values()) == 58
