"""Placement, encoding, topics and consume queues."""

from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery.reader import read_batch
from broker.errors import BadName, BadRequest, ShardcastError, TooLarge, TopicExists, UnknownQueue
from broker.log.commit_log import CommitLog
from broker.log.disk import Disk, OpenFiles
from broker.log.record import ENTRY_BYTES, Columns, encode_entries, encode_records
from broker.model import Attributes, QueueKey, QueueRange, Topic, TopicBatch, TopicId, TopicName
from broker.queues.builder import QueueBuilder
from broker.queues.consume_queue import ConsumeQueue
from broker.queues.encoding import encode_batch
from broker.queues.placement import next_queue, place
from broker.queues.topics import Topics
from tests.support.broker_engine import FragileDisk, PowerLoss

TOPIC = Topic(TopicName("t"), TopicId(1), 4, 4)


def entries(first: int, count: int) -> bytes:
    return b"".join(number.to_bytes(ENTRY_BYTES, "little") for number in range(first, first + count))


@given(st.lists(st.sampled_from([b"", b"a", b"b", b"c"]), max_size=30), st.integers(1, 5), st.integers(0, 4))
def test_each_message_is_placed_once_and_equal_keys_share_a_queue(keys: list[bytes], queues: int, first: int) -> None:
    runs = place(len(keys), keys, queues, first % queues)
    assert sorted(index for run in runs for index in run.indexes) == [*range(len(keys))]
    for run in runs:
        assert [*run.indexes] == sorted(run.indexes)
        assert all(crc32(keys[index]) % queues == run.queue for index in run.indexes if keys[index])


def test_messages_without_keys_make_nearly_equal_runs_from_the_next_queue_on() -> None:
    runs = place(10, [], 4, 3)
    assert [(run.queue, [*run.indexes]) for run in runs] == [(3, [0, 1, 2]), (0, [3, 4, 5]), (1, [6, 7]), (2, [8, 9])]
    assert next_queue(3, 10, 4) == 1


def test_single_messages_go_round() -> None:
    queue, seen = 0, []
    for _ in range(8):
        seen.append(place(1, [], 4, queue)[0].queue)
        queue = next_queue(queue, 1, 4)
    assert seen == [0, 1, 2, 3] * 2


def test_a_batch_may_name_its_queue() -> None:
    (run,) = encode_batch(0, TOPIC, TopicBatch(TOPIC.name, [b"a", b"b"], queue=2), 0, 1)
    assert (run.key, len(run.records.sizes), run.indexes) == (QueueKey(TOPIC.topic_id, 2), 2, ())


@pytest.mark.parametrize(
    ("batch", "refusal"),
    [
        (TopicBatch(TOPIC.name, [b"a"], keys=[b"k", b"l"]), BadRequest),
        (TopicBatch(TOPIC.name, [b"a"], tags=[b"k", b"l"]), BadRequest),
        (TopicBatch(TOPIC.name, [b"a"], attributes={1: Attributes()}), BadRequest),
        (TopicBatch(TOPIC.name, [b"a"], keys=[b"k" * 1_025]), TooLarge),
        (TopicBatch(TOPIC.name, [b"a"], tags=[b"k" * 256]), TooLarge),
        (TopicBatch(TOPIC.name, [b"a"], attributes={0: Attributes({"a": "b" * 32_768})}), TooLarge),
        (TopicBatch(TOPIC.name, [b"a"], queue=4), UnknownQueue),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(batch: TopicBatch, refusal: type[ShardcastError]) -> None:
    with pytest.raises(refusal):
        encode_batch(0, TOPIC, batch, 0, 1)


def test_topics_survive_and_ids_rise(tmp_path: Path) -> None:
    topics = Topics(tmp_path / "topics.json", Disk(), pytest.fail)
    first = topics.create(TopicName("a"), 4)
    second = topics.create(TopicName("b"), 2)
    assert topics.create(TopicName("a"), 4) == first
    assert Topics(tmp_path / "topics.json", Disk(), pytest.fail).list() == [first, second]
    assert second.topic_id > first.topic_id


def test_a_topic_keeps_its_number_of_queues(tmp_path: Path) -> None:
    topics = Topics(tmp_path / "topics.json", Disk(), pytest.fail)
    topics.create(TopicName("a"), 4)
    with pytest.raises(TopicExists):
        topics.create(TopicName("a"), 5)


@pytest.mark.parametrize(
    ("name", "queues", "refusal"), [("a/b", 1, BadName), ("", 1, BadName), ("a", 1_025, BadRequest)]
)
def test_a_topic_that_cannot_be_is_refused(
    tmp_path: Path, name: str, queues: int, refusal: type[ShardcastError]
) -> None:
    with pytest.raises(refusal):
        Topics(tmp_path / "topics.json", Disk(), pytest.fail).create(TopicName(name), queues)


def queue_of_four(path: Path, disk: Disk | None = None) -> ConsumeQueue:
    """A queue whose files have four entries each."""
    return ConsumeQueue(path, OpenFiles(disk or Disk()), entries_per_file=4)


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 8, 10])
def test_a_consume_queue_spans_files_and_is_cut_anywhere(tmp_path: Path, cut: int) -> None:
    queue = queue_of_four(tmp_path)
    queue.append(entries(0, 10))
    assert queue.read(3, 100) == entries(3, 1)
    assert queue.read(4, 100) == entries(4, 4)
    queue = queue_of_four(tmp_path)
    assert queue.restore(QueueRange(0, cut))
    queue.append(entries(cut, 2))
    assert queue.read(cut, 1) == entries(cut, 1)
    assert queue.end == cut + 2
    assert not queue_of_four(tmp_path).restore(QueueRange(0, cut + 3))


def names(path: Path) -> list[int]:
    return sorted(int(file.name) for file in path.iterdir())


def test_what_was_dropped_goes_with_the_sweep_of_the_checkpoint_that_says_so(tmp_path: Path) -> None:
    queue = queue_of_four(tmp_path)
    queue.append(entries(0, 10))
    queue.drop_before(9)
    queue.drop_before(3)  # it never goes back
    assert (queue.lowest, names(tmp_path)) == (9, [0, 4, 8])
    queue.sweep(5)
    assert names(tmp_path) == [4, 8]
    assert queue.read(0, 1) == b""
    queue.sweep(9)
    assert (names(tmp_path), queue.read(9, 5)) == ([8], entries(9, 1))
    again = queue_of_four(tmp_path)
    assert again.restore(QueueRange(9, 10))
    assert (again.lowest, again.end, again.read(9, 5)) == (9, 10, entries(9, 1))


def test_a_queue_is_dropped_up_to_its_end_and_goes_on_there(tmp_path: Path) -> None:
    queue = queue_of_four(tmp_path)
    queue.append(entries(0, 6))
    queue.drop_before(100)
    queue.sweep(6)
    queue = queue_of_four(tmp_path)
    assert queue.restore(QueueRange(6, 6))
    queue.append(entries(6, 3))
    assert (queue.lowest, queue.end, queue.read(6, 5), queue.read(8, 5)) == (6, 9, entries(6, 2), entries(8, 1))


def test_entries_that_come_again_fill_only_what_is_lacking(tmp_path: Path) -> None:
    builder, whole, lost, gone = QueueBuilder(tmp_path, Disk()), *(QueueKey(TopicId(1), queue) for queue in range(3))
    builder.add(whole, entries(0, 8))
    builder.show()
    held = {whole: QueueRange(0, 8), lost: QueueRange(5, 9), gone: QueueRange(2, 3)}
    assert not builder.restore(held)
    for key in (whole, lost):
        builder.add_again(key, 4, entries(4, 2))
        builder.add_again(key, 6, entries(6, 3))
        builder.show()
    builder.finish(held)
    assert builder.held() == {whole: QueueRange(0, 9), lost: QueueRange(5, 9), gone: QueueRange(3, 3)}
    assert builder.queue(lost).read(5, 9) == entries(5, 4)
    assert builder.queue(whole).read(0, 9) == entries(0, 9)
    builder.close()


def test_a_queue_whose_first_messages_are_gone_begins_above_them(tmp_path: Path) -> None:
    builder, key = QueueBuilder(tmp_path, Disk()), QueueKey(TopicId(1), 0)
    assert not builder.restore({key: QueueRange(0, 9)})
    builder.add_again(key, 7, entries(7, 2))
    builder.show()
    assert builder.held() == {key: QueueRange(7, 9)}
    builder.close()


def test_entries_are_visible_when_they_are_shown(tmp_path: Path) -> None:
    builder, key = QueueBuilder(tmp_path, Disk()), QueueKey(TopicId(1), 0)
    builder.add(key, entries(0, 2))
    builder.add(key, entries(2, 1))
    assert (builder.queue(key).end, builder.next_offset(key)) == (0, 3)
    assert builder.show() == [key]
    assert (builder.queue(key).end, builder.next_offset(key), builder.show()) == (3, 3, [])
    builder.close()


def test_a_queue_that_holds_less_than_it_should_is_emptied(tmp_path: Path) -> None:
    key, other = QueueKey(TopicId(1), 0), QueueKey(TopicId(1), 1)
    builder = QueueBuilder(tmp_path, Disk())
    builder.add(key, entries(0, 2))
    builder.add(other, entries(0, 2))
    builder.show()
    builder.close()
    again = QueueBuilder(tmp_path, Disk())
    assert not again.restore({key: QueueRange(0, 2), other: QueueRange(1, 3)})
    assert (again.queue(key).end, again.queue(other).lowest, again.queue(other).end) == (2, 1, 1)
    again.close()


def test_a_queue_that_lost_a_file_in_its_middle_does_not_hold_its_end(tmp_path: Path) -> None:
    queue_of_four(tmp_path).append(entries(0, 10))
    (tmp_path / f"{4:020}").unlink()
    assert not queue_of_four(tmp_path).restore(QueueRange(0, 10))


class DiskInUse(Disk):
    """Lets something else happen just before a write, and just behind a sync."""

    def __init__(self) -> None:
        self.before_write: Callable[[], None] | None = None
        self.behind_sync: Callable[[], None] | None = None
        self.syncs = 0

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> None:
        if self.before_write is not None:
            self.before_write()
        super().write(fd, buffers, at)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.syncs += 1
        if self.behind_sync is not None and self.syncs < 10:
            self.behind_sync()


def test_entries_written_while_a_sync_runs_are_left_to_the_next_one(tmp_path: Path) -> None:
    disk = DiskInUse()
    queue = ConsumeQueue(tmp_path, OpenFiles(disk))
    disk.before_write = queue.sync
    queue.append(entries(0, 1))
    disk.syncs = 0
    queue.sync()
    assert disk.syncs == 1


def test_a_sync_ends_although_the_writer_goes_on(tmp_path: Path) -> None:
    disk = DiskInUse()
    queue = ConsumeQueue(tmp_path, OpenFiles(disk))
    queue.append(entries(0, 1))
    disk.behind_sync = lambda: queue.append(entries(1, 1))
    queue.sync()
    assert disk.syncs == 1


class SameLog(CommitLog):
    """The same record at every 4,000 bytes; notes how much is read at once."""

    def __init__(self, record: bytes) -> None:
        self.sizes: list[int] = []
        self._record = record

    def read(self, position: int, size: int) -> bytes:
        self.sizes.append(size)
        return (self._record.ljust(4_000, b"\0") * (size // 4_000 + 1))[:size]


def test_small_records_between_those_of_other_queues_are_read_in_bounded_pieces(tmp_path: Path) -> None:
    queue, record = ConsumeQueue(tmp_path, OpenFiles(Disk())), encode_records(Columns([b"a"]), 1)
    queue.append(b"".join(encode_entries(record, 4_000 * number) for number in range(1_000)))
    log = SameLog(record.data)
    fetched = read_batch(log, queue, TopicId(1), 0, max_messages=1_000, max_bytes=1 << 20)
    assert len(fetched.bodies) == 1_000
    assert max(log.sizes) <= 1 << 20


def test_a_topic_that_cannot_be_stored_ends_the_process(tmp_path: Path) -> None:
    disk, died = FragileDisk(), list[BaseException]()
    topics = Topics(tmp_path / "topics.json", disk, died.append)
    disk.budget = 3
    with pytest.raises(PowerLoss):
        topics.create(TopicName("t"), 1)
    assert isinstance(died[0], PowerLoss)
    assert topics.get(TopicName("t")) is None
