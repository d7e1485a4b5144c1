"""The indexes of the log against a list: found by time and by key, after a crash at any byte, after any damage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.log.commit_log import CommitLog
from broker.log.disk import Disk
from broker.log.frame import HEADER, Kind
from broker.log.index import times
from broker.log.index.growing import IndexMark
from broker.log.index.keys import encode_keys, key_hash, key_hashes, positions_backwards
from broker.log.index.log_index import LogIndex
from broker.log.payload import PublishHead, RunHead, encode_publish_head
from broker.log.record import Columns, encode_records

SEGMENT = 400
KEYS = st.sampled_from([b"", b"a", b"b", b"order-1"])


@dataclass(frozen=True)
class Put:
    """A publish of one run: when, to which topic, with which keys."""

    at_ms: int
    topic_id: int
    keys: Sequence[bytes]


PUTS = st.builds(Put, st.integers(0, 20), st.integers(1, 2), st.lists(KEYS, min_size=1, max_size=3))
GROUPS = st.lists(st.lists(PUTS, max_size=3), max_size=8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "BLOCK_BYTES", 100)


class Indexed:
    """A log with its index, written as the engine does it, and what went in."""

    def __init__(self, path: Path) -> None:
        self.log = CommitLog(path, Disk(), SEGMENT)
        self.index = LogIndex(self.log, Disk())
        self.frames: list[tuple[int, int]] = []  # position and time
        self.records: list[tuple[int, int, bytes]] = []  # position, topic id and key

    def put(self, groups: Sequence[Sequence[Put]]) -> None:
        for group in groups:
            for put in group:
                self._put(put)
            self.log.flush()
            self.index.write()

    def _put(self, put: Put) -> None:
        records = encode_records(Columns([b"body"] * len(put.keys), put.keys), put.at_ms)
        run = RunHead(0, put.topic_id, 0, 0, len(put.keys), len(records.data))
        head = encode_publish_head(PublishHead("p", 1, 1, None, [run]))
        position = self.log.append(Kind.PUBLISH, [head, records.data], put.at_ms)
        self.index.note(position, put.at_ms)
        at = position + HEADER.size + len(head)
        self.index.add_keys(key_hashes(put.keys, put.topic_id), records.sizes, at)
        self.frames.append((position, put.at_ms))
        for key, size in zip(put.keys, records.sizes, strict=True):
            self.records.append((at, put.topic_id, key))
            at += size

    def check(self) -> None:
        for at_ms in range(22):
            first = next((position for position, stored in self.frames if stored >= at_ms), self.log.written)
            assert self.index.position_at(at_ms) == first
        for topic_id in (1, 2):
            for key in (b"a", b"b", b"order-1"):
                expected = [at for at, topic, other in self.records if (topic, other) == (topic_id, key)]
                assert [*self.index.positions_of(topic_id, key)] == expected[::-1]

    def close(self) -> None:
        self.index.close()
        self.log.close()


@contextmanager
def indexed() -> Iterator[tuple[Path, Indexed]]:
    with TemporaryDirectory() as path:
        yield Path(path), Indexed(Path(path))


@settings(deadline=None)
@given(GROUPS, GROUPS, st.data())
def test_what_is_found_is_what_was_stored_whatever_a_crash_left_of_the_files(
    before: list[list[Put]], after: list[list[Put]], data: st.DataObject
) -> None:
    with indexed() as (path, stored):
        stored.put(before)
        mark, position = IndexMark.of(stored.index.mark().numbers()), stored.log.durable
        stored.put(after)
        stored.check()
        stored.close()
        _damage(path, data)

        again = Indexed(path)
        again.frames, again.records = stored.frames, stored.records
        again.index.restore(data.draw(st.sampled_from([mark, None]), label="mark"), position)
        again.log.recover(position, again.index.add)
        again.check()
        again.put(after)
        again.check()
        again.close()


def _damage(path: Path, data: st.DataObject) -> None:
    """Cuts, garbles or removes any of the index files, as a power loss may."""
    for file in sorted([*path.glob("*.times"), *path.glob("*.keys")]):
        whole = file.read_bytes()
        kept = data.draw(st.integers(0, len(whole)), label=f"bytes left of {file.name}")
        how = data.draw(st.sampled_from(["whole", "cut", "garbled", "gone"]), label=f"what befell {file.name}")
        match how:
            case "cut":
                file.write_bytes(whole[:kept])
            case "garbled":
                file.write_bytes(whole[:kept] + bytes(len(whole) - kept))
            case "gone":
                file.unlink()


@given(st.lists(st.integers(0, 3), max_size=50))
def test_equal_hashes_are_found_the_last_first(hashes: list[int]) -> None:
    entries = encode_keys(hashes, [*range(len(hashes))])
    for wanted in (1, 2, 3):
        expected = [at for at, known in enumerate(hashes) if known == wanted]
        assert [*positions_backwards(entries, wanted)] == expected[::-1]


@given(st.lists(st.binary(max_size=2), max_size=20), st.integers(0, (1 << 32) - 1))
def test_all_keys_at_once_hash_like_each_alone(keys: list[bytes], topic_id: int) -> None:
    alone = [key_hash(key, topic_id) for key in keys]
    assert [*key_hashes(keys, topic_id)] == (alone if any(keys) else [])
    assert [bool(known) for known in alone] == [bool(key) for key in keys]
