"""Builds the consume queues behind the log: offsets are given out at once, entries become visible when told to."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from broker.log.disk import Disk
from broker.log.record import ENTRY_BYTES
from broker.model import QueueKey, TopicId
from broker.queues.consume_queue import ConsumeQueue


class QueueBuilder:
    """All consume queues; `add` and `show` belong to the writer's thread."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._queues: dict[QueueKey, ConsumeQueue] = {}
        self._waiting: dict[QueueKey, list[bytes]] = {}
        self._next: dict[QueueKey, int] = {}

    def queue(self, key: QueueKey) -> ConsumeQueue:
        """The queue, empty if nothing was ever added to it."""
        queue = self._queues.get(key)
        if queue is None:
            directory = self._directory / str(key.topic_id) / str(key.queue)
            queue = self._queues.setdefault(key, ConsumeQueue(directory, 0, self._disk))
        return queue

    def next_offset(self, key: QueueKey) -> int:
        """The offset of the next message, those that are not visible yet counted."""
        offset = self._next.get(key)
        return self.queue(key).end if offset is None else offset

    def add(self, key: QueueKey, entries: bytes) -> None:
        """Takes entries that `show` will make visible."""
        self._next[key] = self.next_offset(key) + len(entries) // ENTRY_BYTES
        self._waiting.setdefault(key, []).append(entries)

    def show(self) -> list[QueueKey]:
        """Makes everything added visible, and tells which queues grew."""
        grown = [*self._waiting]
        for key, entries in self._waiting.items():
            self.queue(key).append(b"".join(entries))
        self._waiting.clear()
        self._next.clear()
        return grown

    def ends(self) -> dict[QueueKey, int]:
        """Where each queue that holds anything ends; others may add queues meanwhile."""
        return {key: queue.end for key, queue in [*self._queues.items()] if queue.end}

    def restore(self, ends: Mapping[QueueKey, int]) -> bool:
        """Cuts all queues back to these ends; False, and all empty, if the files hold less than that."""
        is_whole = all(self.queue(key).holds(end) for key, end in ends.items())
        for key in self._stored():
            self.queue(key).cut(ends.get(key, 0) if is_whole else 0)
        return is_whole

    def _stored(self) -> Iterable[QueueKey]:
        for topic in self._directory.iterdir():
            for queue in topic.iterdir():
                yield QueueKey(TopicId(int(topic.name)), int(queue.name))

    def sync(self) -> None:
        """Makes everything visible durable; beside the writer."""
        for queue in [*self._queues.values()]:
            queue.sync()

    def close(self) -> None:
        for queue in self._queues.values():
            queue.close()
