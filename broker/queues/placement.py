"""Which queue each message of a batch goes to: equal keys share a queue, the others are spread evenly."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple
from zlib import crc32


class Run(NamedTuple):
    """Messages of a batch that go to one queue, by index; rising."""

    queue: int
    indexes: Sequence[int]


def place(count: int, keys: Sequence[bytes], queues: int, first_queue: int) -> list[Run]:
    """Every message with a key at crc32(key) % queues, those without in nearly equal runs from `first_queue` on."""
    if not any(keys):
        return _spread(range(count), queues, first_queue)
    buckets: list[list[int]] = [[] for _ in range(queues)]
    for index, key in enumerate(keys):
        if key:
            buckets[crc32(key) % queues].append(index)
    keyless = [index for index, key in enumerate(keys) if not key]
    for run in _spread(keyless, queues, first_queue):
        buckets[run.queue] = sorted([*buckets[run.queue], *run.indexes])
    return [Run(queue, indexes) for queue, indexes in enumerate(buckets) if indexes]


def _spread(indexes: Sequence[int], queues: int, first_queue: int) -> list[Run]:
    share, extra = divmod(len(indexes), queues)
    used = queues if share else extra
    bounds = [*accumulate((share + (number < extra) for number in range(used)), initial=0)]
    return [
        Run((first_queue + number) % queues, indexes[begin:end]) for number, (begin, end) in enumerate(pairwise(bounds))
    ]


def next_queue(first_queue: int, count: int, queues: int) -> int:
    """Where the next publish begins so that all queues get the same in the long run."""
    return (first_queue + count) % queues
