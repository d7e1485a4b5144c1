"""How many bytes of records a topic holds, and which of its messages are the oldest beyond a limit."""

from collections.abc import Iterator, Mapping
from heapq import merge

from broker.log.record import decode_entries
from broker.model import QueueKey
from broker.queues.consume_queue import ENTRIES_PER_FILE, ConsumeQueue

BLOCK = ENTRIES_PER_FILE // 60  # entries summed together; a block never goes over two files


class TopicBytes:
    """Looks at each entry once, when it has come; for one thread at a time."""

    def __init__(self) -> None:
        self._sums: dict[QueueKey, _Sums] = {}

    def outlived(self, queues: Mapping[QueueKey, ConsumeQueue], limit: int) -> dict[QueueKey, int]:
        """By queue of one topic: everything before this offset has to go so that no more than the limit is kept."""
        total = sum(self._sums.setdefault(key, _Sums(queue)).size() for key, queue in queues.items())
        outlived = {key: queue.lowest for key, queue in queues.items()}
        if total > limit:
            for _, size, offset, key in merge(*(_records(key, queue) for key, queue in queues.items())):
                outlived[key] = offset + 1
                total -= size
                if total <= limit:
                    break
        return outlived


class _Sums:
    """Bytes of a queue's records, summed up at the first offset of each block."""

    def __init__(self, queue: ConsumeQueue) -> None:
        self._queue = queue
        self._end = queue.lowest
        self._total = 0
        self._marks = {self._end: 0}

    def size(self) -> int:
        """Of all that the queue holds now."""
        lowest, end = self._queue.lowest, self._queue.end
        self._count_to(max(lowest, end))
        mark = max(offset for offset in self._marks if offset <= lowest)
        self._marks = {offset: total for offset, total in self._marks.items() if offset >= mark}
        return self._total - self._marks[mark] - _size(self._queue, mark, lowest)

    def _count_to(self, end: int) -> None:
        while self._end < end:
            block_end = min(end, self._end - self._end % BLOCK + BLOCK)
            self._total += _size(self._queue, self._end, block_end)
            self._end = block_end
            if block_end % BLOCK == 0:
                self._marks[block_end] = self._total


def _size(queue: ConsumeQueue, begin: int, end: int) -> int:
    """Bytes of the records of one block, or a part of it."""
    return sum(size for _, size, *_ in decode_entries(queue.read(begin, end - begin))) if begin < end else 0


def _records(key: QueueKey, queue: ConsumeQueue) -> Iterator[tuple[int, int, int, QueueKey]]:
    """Position, size and offset of each, the oldest first."""
    offset, end = queue.lowest, queue.end
    while offset < end:
        entries = [*decode_entries(queue.read(offset, min(BLOCK, end - offset)))]
        for position, size, *_ in entries:
            yield position, size, offset, key
            offset += 1
        if not entries:
            return
