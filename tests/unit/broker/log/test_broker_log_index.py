"""The index of the log over restarts: nothing is read again after a clean stop, and files of deleted segments go."""

from pathlib import Path

import pytest

from broker.engine.opening import Checkpointer
from broker.log.commit_log import CommitLog
from broker.log.disk import Disk
from broker.log.frame import Kind
from broker.log.index import log_index
from broker.log.index.log_index import LogIndex
from tests.support.broker_engine import opening, publishing, running_engine


def test_after_a_clean_stop_nothing_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_engine(tmp_path) as (engine, directory):
        engine.commit([opening("run/a/0", 1, "h")])
        for sequence in range(1, 10):
            engine.commit([publishing("run/a/0", 1, "h", sequence, b"a", b"b")])
        assert len(engine.log.segments) > 1
        Checkpointer(engine, directory, Disk(), 1 << 30, pytest.fail).close()
        mark = engine.log_index.mark()
    monkeypatch.setattr(log_index, "_fill", pytest.fail)
    with running_engine(tmp_path) as (engine, _):
        assert engine.log_index.mark() == mark
        assert engine.log_index.position_at(0) == 0


def test_the_files_of_deleted_segments_go_with_what_a_crash_left_of_them(tmp_path: Path) -> None:
    log = CommitLog(tmp_path, Disk(), 100)
    index = LogIndex(log, Disk())
    for at_ms in range(5):
        index.note(log.append(Kind.FORGET, [bytes(40)], at_ms), at_ms)
        log.flush()
        index.write()
    (tmp_path / f"{0:020}.times-new").touch()
    assert index.position_at(2) == log.segments[2].start
    log.remove_before(log.segments[3].start)
    index.sweep()
    starts = {segment.path.stem for segment in log.segments}
    assert {path.stem for path in tmp_path.iterdir()} == starts
    assert index.position_at(2) == log.start
    index.close()
    log.close()
