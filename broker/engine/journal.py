"""What the rooms of the engine write through: frames into the log, entries of their records into queues and index."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat

from broker.log.commit_log import CommitLog
from broker.log.frame import HEADER, Frame, Kind
from broker.log.index.keys import key_hashes
from broker.log.index.log_index import LogIndex
from broker.log.payload import RunHead, encode_change_head, publish_head_size, records_position
from broker.log.record import encode_entries, rebuild_entries, rebuild_keys
from broker.model import QueueKey, Range, TopicId
from broker.queues.altered.replacing import placed
from broker.queues.builder import QueueBuilder
from broker.queues.encoding import EncodedRun
from broker.queues.topics import Topics


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a frame lies, and where its records went."""

    position: int
    heads: Sequence[RunHead]


@dataclass(frozen=True, slots=True)
class Journal:
    """For the writer's thread: what was appended becomes durable and visible with its group."""

    log: CommitLog
    queues: QueueBuilder
    log_index: LogIndex
    topics: Topics

    def append(self, kind: Kind, payload: Sequence[bytes], at_ms: int) -> int:
        """Takes a frame for the next flush and returns its position. Raises TooLarge."""
        position = self.log.append(kind, payload, at_ms)
        self.log_index.note(position, at_ms)
        return position

    def append_change(self, kind: Kind, change: bytes, runs: Sequence[EncodedRun], at_ms: int) -> Appended:
        """A room's change together with records that go to queues by it, as one frame. Raises TooLarge.

        Records of deleted topics are left out.
        """
        runs = self.placed(runs)
        heads = self.give_offsets(runs)
        encoded = encode_change_head(change, heads)
        position = self.append(kind, [encoded, *(run.records.data for run in runs)], at_ms)
        self.index(runs, records_position(position, encoded))
        return Appended(position, heads)

    def placed(self, runs: Sequence[EncodedRun]) -> Sequence[EncodedRun]:
        """The runs as their topics are now: one may have been altered or deleted since they were made."""
        return placed(runs, self.topics.by_id)

    def give_offsets(self, runs: Sequence[EncodedRun]) -> list[RunHead]:
        """The offsets that the runs will have once they are indexed; delayed ones get none."""
        heads, taken = [], dict[QueueKey, int]()
        for run in runs:
            first, count, is_delayed = 0, len(run.records.sizes), bool(run.dues)
            if not is_delayed:
                first = taken.get(run.key) or self.queues.next_offset(run.key)
                taken[run.key] = first + count
            place = (run.batch, *run.key, first, count, len(run.records.data), run.indexes)
            heads.append(RunHead(*place, is_delayed, run.placed_over))
        return heads

    def index(self, runs: Sequence[EncodedRun], position: int) -> None:
        """Takes the entries of the runs, whose records lie back to back from `position` on."""
        for run in runs:
            if not run.dues:
                self.queues.add(run.key, encode_entries(run.records, position))
                self._add_keys(run, position)
            position += len(run.records.data)

    def _add_keys(self, run: EncodedRun, position: int) -> None:
        hashes, records = run.key_hashes, run.records
        if hashes is None:
            keys, _ = rebuild_keys(records.data, 0, len(records.sizes))
            hashes = key_hashes(keys, run.key.topic_id)
        self.log_index.add_keys(hashes, records.sizes, position)

    def index_again(self, frame: Frame, runs: Sequence[RunHead]) -> None:
        """What `index` did when the frame was stored, as far as the queues lack it; for recovery.

        Raises DirectoryUnusable for topics that there never were.
        """
        self.topics.check(TopicId(run.topic_id) for run in runs)
        start = publish_head_size(frame.payload)
        for run in runs:
            if not run.is_delayed and self.topics.by_id(TopicId(run.topic_id)):
                position = frame.position + HEADER.size + start
                entries = rebuild_entries(frame.payload, start, run.count, position)
                self.queues.add_again(QueueKey(TopicId(run.topic_id), run.queue), run.first_offset, entries)
            start += run.size
        self.queues.show()


def ranges(
    runs: Sequence[RunHead], position: int = 0, delayed_sizes: Iterable[Sequence[int]] = repeat(())
) -> list[Range]:
    """Where the messages of these runs are, as users are told; the records lie back to back from `position` on.

    `delayed_sizes` has the sizes of each run's records where they are delayed.
    """
    found = []
    for run, sizes in zip(runs, delayed_sizes, strict=False):
        place = (run.batch, TopicId(run.topic_id), run.queue, run.first_offset, run.count, (*run.indexes,))
        found.append(Range(*place, (*accumulate(sizes[:-1], initial=position),) if sizes else ()))
        position += run.size
    return found
