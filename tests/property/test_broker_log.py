"""The commit log against a list: append, roll, crash at any byte, reopen."""

from contextlib import suppress
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import LogDamaged
from broker.log.commit_log import CommitLog, Durability
from broker.log.disk import Disk
from broker.log.frame import Frame, Kind
from broker.log.recovery import verify

PAYLOADS = st.binary(max_size=60)
GROUPS = st.lists(st.lists(PAYLOADS, min_size=1, max_size=4), max_size=8)
SEGMENT = 200


def reopen(directory: Path) -> tuple[CommitLog, list[bytes]]:
    log = CommitLog(directory, Disk(), SEGMENT)
    frames: list[Frame] = []
    log.recover(0, frames.append)
    return log, [frame.payload for frame in frames]


def append_groups(log: CommitLog, groups: list[list[bytes]]) -> None:
    for group in groups:
        for payload in group:
            log.append(Kind.FORGET, [payload], stored_at_ms=1)
        log.flush()


@settings(deadline=None)
@given(GROUPS, GROUPS)
def test_a_reopened_log_holds_what_was_appended(first: list[list[bytes]], second: list[list[bytes]]) -> None:
    with TemporaryDirectory() as path:
        for groups, before in ((first, []), (second, first)):
            log, found = reopen(Path(path))
            assert found == [*chain.from_iterable(before)]
            append_groups(log, groups)
            log.close()
        log, found = reopen(Path(path))
        log.close()
        assert found == [*chain.from_iterable(first + second)]


@settings(deadline=None)
@given(GROUPS, st.lists(PAYLOADS, min_size=1, max_size=4), st.data())
def test_a_crash_at_any_byte_keeps_all_that_was_durable_and_nothing_in_part(
    durable: list[list[bytes]], last: list[bytes], data: st.DataObject
) -> None:
    with TemporaryDirectory() as path:
        log, _ = reopen(Path(path))
        append_groups(log, durable)
        safe = log.durable
        append_groups(log, [last])
        end = log.durable
        log.close()
        newest = max(Path(path).glob("*.log"))
        start = int(newest.stem)
        kept = data.draw(st.integers(max(safe, start), end), label="bytes of the log that reached the disk")
        garbage = data.draw(st.binary(max_size=end - kept), label="what the file system made of the rest")
        newest.write_bytes(newest.read_bytes()[: kept - start] + garbage)

        reopened, found = reopen(Path(path))
        everything = [*chain.from_iterable(durable), *last]
        assert found == everything[: len(found)]
        assert len(found) >= sum(map(len, durable))
        append_groups(reopened, [[b"after"]])
        reopened.close()
        log, again = reopen(Path(path))
        log.close()
        assert again == [*found, b"after"]


@settings(deadline=None)
@given(GROUPS, st.data())
def test_every_flipped_byte_is_found_by_verify_or_by_the_next_open(
    groups: list[list[bytes]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as path:
        log, _ = reopen(Path(path))
        append_groups(log, [[b"first"], *groups])
        everything = [b"first", *chain.from_iterable(groups)]
        synced = log.durable
        log.close()
        file = data.draw(st.sampled_from(sorted(Path(path).glob("*.log"))), label="file")
        stored = bytearray(file.read_bytes())
        at = data.draw(st.integers(0, len(stored) - 1), label="byte")
        stored[at] ^= data.draw(st.integers(1, 255), label="flip")
        file.write_bytes(stored)

        log = CommitLog(Path(path), Disk(), SEGMENT)
        frames: list[Frame] = []
        log.recover(synced, frames.append)  # a checkpoint says that all of it was durable: only sizes are looked at
        damages = [damage for segment in log.segments for damage in verify(segment).damages]
        assert [Path(str(damage.fields["path"])) for damage in damages] == [file]
        log.close()
        log = CommitLog(Path(path), Disk(), SEGMENT)
        with suppress(LogDamaged):
            log.recover(0, frames.append)
            # The last group alone may be a torn write, for nothing behind it says that it had been durable.
            assert len(frames) >= len(everything) - len((groups or [[b"first"]])[-1])
        assert [frame.payload for frame in frames] == everything[: len(frames)]
        assert len(frames) < len(everything)
        log.close()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(PAYLOADS, min_size=1, max_size=4), st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_a_power_loss_between_syncs_takes_a_tail_and_is_no_damage(
    groups: list[tuple[list[bytes], bool]], random: Random
) -> None:
    with TemporaryDirectory() as path:
        log = CommitLog(Path(path), Disk(), 4 * SEGMENT, Durability.INTERVAL)
        log.recover(0, lambda _: None)
        everything, ends = [payload for group, _ in groups for payload in group], list[int]()
        for group, is_synced in groups:
            for payload in group:
                log.append(Kind.FORGET, [payload], stored_at_ms=1)
                ends.append(0)
            log.flush()
            ends[-len(group) :] = [log.written] * len(group)
            if is_synced:
                log.sync()
        durable, newest = log.durable, log.segments[-1]
        log.close()
        stored = bytearray(newest.path.read_bytes())
        for at in range(max(durable - newest.start, 0), len(stored), 16):  # blocks reach the disk in any order
            if random.random() < 0.5:
                stored[at : at + 16] = bytes(len(stored[at : at + 16]))
        newest.path.write_bytes(stored)

        frames: list[Frame] = []
        log = CommitLog(Path(path), Disk(), 4 * SEGMENT, Durability.INTERVAL)
        log.recover(0, frames.append)
        log.close()
        assert [frame.payload for frame in frames] == everything[: len(frames)]
        assert len(frames) >= sum(end <= durable for end in ends)
