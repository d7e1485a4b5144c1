"""Builds the consume queues behind the log: offsets are given out at once, entries become visible when told to."""

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from broker.log.disk import Disk, OpenFiles
from broker.log.record import ENTRY_BYTES
from broker.model import QueueKey, QueueRange, TopicId
from broker.queues.consume_queue import ConsumeQueue

_NOTHING = QueueRange(0, 0)

Sums = Sequence[tuple[int, int, Sequence[Sequence[int]]]]
"""Topic, queue, and the checksums of its files."""


class QueueBuilder:
    """All consume queues; `add`, `add_again` and `show` belong to the writer's thread."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._files = OpenFiles(disk)
        self._queues: dict[QueueKey, ConsumeQueue] = {}
        self._waiting: dict[QueueKey, list[bytes]] = {}
        self._next: dict[QueueKey, int] = {}

    def queue(self, key: QueueKey) -> ConsumeQueue:
        """The queue, empty if nothing was ever added to it."""
        queue = self._queues.get(key)
        if queue is None:
            directory = self._directory / str(key.topic_id) / str(key.queue)
            queue = self._queues.setdefault(key, ConsumeQueue(directory, self._files))
        return queue

    def next_offset(self, key: QueueKey) -> int:
        """The offset of the next message, those that are not visible yet counted."""
        offset = self._next.get(key)
        return self.queue(key).end if offset is None else offset

    def add(self, key: QueueKey, entries: bytes) -> None:
        """Takes entries that `show` will make visible."""
        self._next[key] = self.next_offset(key) + len(entries) // ENTRY_BYTES
        self._waiting.setdefault(key, []).append(entries)

    def add_again(self, key: QueueKey, first_offset: int, entries: bytes) -> None:
        """Takes those of the entries that the queue lacks; an empty one may begin with them."""
        end, queue = self.next_offset(key), self.queue(key)
        if first_offset > end:
            assert queue.lowest == end, f"{queue.path} lacks {end} up to {first_offset}"
            queue.begin(first_offset)
            end = first_offset
        lacking = entries[(end - first_offset) * ENTRY_BYTES :]
        if lacking:
            self.add(key, lacking)

    def show(self) -> list[QueueKey]:
        """Makes everything added visible, and tells which queues grew."""
        grown = [*self._waiting]
        for key, entries in self._waiting.items():
            self.queue(key).append(b"".join(entries))
        self._waiting.clear()
        self._next.clear()
        return grown

    def held(self) -> dict[QueueKey, QueueRange]:
        """What each queue that ever held anything holds; others may add queues meanwhile."""
        return {key: QueueRange(queue.lowest, queue.end) for key, queue in [*self._queues.items()] if queue.end}

    def restore(self, held: Mapping[QueueKey, QueueRange], sums: Sums = ()) -> bool:
        """Cuts all queues back to what they held; False if files hold less than that: those queues are empty now."""
        files = {QueueKey(TopicId(topic), queue): stored for topic, queue, stored in sums}
        keys = {*held, *self._stored()}
        restored = [self.queue(key).restore(held.get(key, _NOTHING), files.get(key, ())) for key in keys]
        return all(restored)

    def sums(self) -> Sums:
        """For the checkpoint: what the files of each queue hold, as `restore` takes it."""
        return [(*key, queue.sums.stored()) for key, queue in [*self._queues.items()] if queue.end]

    def forget(self, topic_id: TopicId) -> None:
        """Drops all queues of a deleted topic with their files, and what waits to be shown."""
        for key in [key for key in {*self._queues, *self._stored()} if key.topic_id == topic_id]:
            self.queue(key).delete()
            for known in (self._queues, self._waiting, self._next):
                known.pop(key, None)
        with suppress(FileNotFoundError):
            (self._directory / str(topic_id)).rmdir()

    def forget_all_but(self, known: Container[TopicId]) -> None:
        """Drops what a crash has left of deleted topics."""
        for topic_id in {key.topic_id for key in self._stored()}:
            if topic_id not in known:
                self.forget(topic_id)

    def finish(self, held: Mapping[QueueKey, QueueRange]) -> None:
        """After `add_again` of all that is stored: a queue whose messages are all gone goes on where it ended."""
        for key, last in held.items():
            queue = self.queue(key)
            if queue.end < last.end_offset:
                assert queue.lowest == queue.end, f"{queue.path} lacks {queue.end} up to {last.end_offset}"
                queue.begin(last.end_offset)

    def _stored(self) -> Iterable[QueueKey]:
        for topic in self._directory.iterdir():
            for queue in topic.iterdir():
                yield QueueKey(TopicId(int(topic.name)), int(queue.name))

    def sync(self) -> None:
        """Makes everything visible durable; beside the writer."""
        for queue in [*self._queues.values()]:
            queue.sync()

    def sweep(self, held: Mapping[QueueKey, QueueRange]) -> None:
        """Deletes the files before what a stored checkpoint says that the queues hold."""
        for key, kept in held.items():
            self.queue(key).sweep(kept.lowest_offset)

    def close(self) -> None:
        """Gives all descriptors back; nobody reads any more."""
        self._files.close()
