"""Outcomes outlive the process that had them."""

from pathlib import Path

from executor.link.convert import key_of
from executor.link.outbox import open_outbox
from executor.model import ExecutorId
from protos.executor.v1 import link_pb2 as pb


def an_outcome(shard: int) -> pb.Outcome:
    return pb.Outcome(attempt=pb.Attempt(run_id="run", shard=shard, term=1), state=pb.OUTCOME_STATE_SUCCEEDED)


def files(data: Path) -> list[str]:
    return sorted(path.name for path in data.rglob("*.outcome"))


def test_what_was_not_accepted_is_there_after_a_restart(tmp_path: Path) -> None:
    with open_outbox(tmp_path, ExecutorId("first"), "a") as outbox:
        outbox.add(an_outcome(0))
        outbox.add(an_outcome(1))
        outbox.remove(key_of(an_outcome(0).attempt))
    with open_outbox(tmp_path, ExecutorId("second"), "a") as outbox:
        assert outbox.outcomes == [an_outcome(1)]
        assert not (tmp_path / "outbox" / "first").exists()
        outbox.remove(key_of(an_outcome(1).attempt))
    assert files(tmp_path) == []
    assert not (tmp_path / "outbox" / "second").exists()


def test_two_living_executors_keep_apart(tmp_path: Path) -> None:
    with open_outbox(tmp_path, ExecutorId("first"), "a") as first:
        first.add(an_outcome(0))
        with open_outbox(tmp_path, ExecutorId("second"), "a") as second:
            assert second.outcomes == []
        assert first.outcomes == [an_outcome(0)]
        assert files(tmp_path) == ["run-0-1.outcome"]


def test_nobody_takes_over_what_an_executor_of_another_group_left(tmp_path: Path) -> None:
    """Whom the admin would not believe: the outcome would be superseded, and forgotten."""
    with open_outbox(tmp_path, ExecutorId("first"), "a") as outbox:
        outbox.add(an_outcome(0))
    with open_outbox(tmp_path, ExecutorId("second"), "b") as outbox:
        assert outbox.outcomes == []
    with open_outbox(tmp_path, ExecutorId("third"), "a") as outbox:
        assert outbox.outcomes == [an_outcome(0)]


def test_what_a_crash_left_half_written_is_no_outcome(tmp_path: Path) -> None:
    left = tmp_path / "outbox" / "dead"
    left.mkdir(parents=True)
    (left / "run-0-1.tmp").write_bytes(b"\x0a")
    (left / "run-1-1.outcome").write_bytes(b"\xff\xff")
    (left / "run-2-1.outcome").write_bytes(an_outcome(2).SerializeToString())
    with open_outbox(tmp_path, ExecutorId("next"), "a") as outbox:
        assert outbox.outcomes == [an_outcome(2)]


def test_the_same_outcome_twice_is_kept_once(tmp_path: Path) -> None:
    with open_outbox(tmp_path, ExecutorId("only"), "a") as outbox:
        outbox.add(an_outcome(0))
        outbox.add(an_outcome(0))
        assert outbox.outcomes == [an_outcome(0)]
        outbox.remove(key_of(an_outcome(0).attempt))
        outbox.remove(key_of(an_outcome(0).attempt))
