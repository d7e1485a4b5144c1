"""What the rooms of the engine write through: frames into the log, entries of their records into the queues."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.log.commit_log import CommitLog
from broker.log.frame import HEADER, Frame, Kind
from broker.log.payload import RunHead, encode_change_head, publish_head_size, records_position
from broker.log.record import encode_entries, rebuild_entries
from broker.model import QueueKey, Range, TopicId
from broker.queues.builder import QueueBuilder
from broker.queues.encoding import EncodedRun


@dataclass(frozen=True, slots=True)
class Journal:
    """For the writer's thread: what was appended becomes durable and visible with its group."""

    log: CommitLog
    queues: QueueBuilder

    def append(self, kind: Kind, payload: Sequence[bytes], at_ms: int) -> int:
        """Takes a frame for the next flush and returns its position. Raises TooLarge."""
        return self.log.append(kind, payload, at_ms)

    def append_change(self, kind: Kind, change: bytes, runs: Sequence[EncodedRun], at_ms: int) -> list[RunHead]:
        """A room's change together with records that go to queues by it, as one frame. Raises TooLarge."""
        heads = self.give_offsets(runs)
        encoded = encode_change_head(change, heads)
        position = self.append(kind, [encoded, *(run.records.data for run in runs)], at_ms)
        self.index(runs, records_position(position, encoded))
        return heads

    def give_offsets(self, runs: Sequence[EncodedRun]) -> list[RunHead]:
        """The offsets that the runs will have once they are indexed."""
        heads, taken = [], dict[QueueKey, int]()
        for run in runs:
            first, count = taken.get(run.key) or self.queues.next_offset(run.key), len(run.records.sizes)
            taken[run.key] = first + count
            heads.append(RunHead(run.batch, *run.key, first, count, len(run.records.data), run.indexes))
        return heads

    def index(self, runs: Sequence[EncodedRun], position: int) -> None:
        """Takes the entries of the runs, whose records lie back to back from `position` on."""
        for run in runs:
            self.queues.add(run.key, encode_entries(run.records, position))
            position += len(run.records.data)

    def index_again(self, frame: Frame, runs: Sequence[RunHead]) -> None:
        """What `index` did when the frame was stored, as far as the queues lack it; for recovery."""
        start = publish_head_size(frame.payload)
        for run in runs:
            position = frame.position + HEADER.size + start
            entries = rebuild_entries(frame.payload, start, run.count, position)
            self.queues.add_again(QueueKey(TopicId(run.topic_id), run.queue), run.first_offset, entries)
            start += run.size
        self.queues.show()


def ranges(runs: Sequence[RunHead]) -> list[Range]:
    """Where the messages of these runs are, as users are told."""
    return [
        Range(run.batch, TopicId(run.topic_id), run.queue, run.first_offset, run.count, run.indexes) for run in runs
    ]
