"""What a publish returns: a receipt per message, built from one range per queue when looked at."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import overload

from broker.model import message_id
from protos.broker.v1 import broker_pb2 as pb


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a message is stored for good.

    A delayed one has no offset (-1) and no message id ("") before it is delivered, but a handle to recall it.
    """

    queue: int
    offset: int
    message_id: str
    handle: int | None = None


STORED_BEFORE = Receipt(queue=-1, offset=-1, message_id="")
"""Of a message whose answer was lost: it is on disk once, at a place that the broker does not remember."""


class Receipts(Sequence[Receipt]):
    """One receipt per message of the publish, in its order; `sent_as` says which ordinal each had on the wire.

    Empty where the broker had the publish already and does not remember where (`is_duplicate`).
    """

    def __init__(self, published: pb.Published, sent_as: Sequence[int] = ()) -> None:
        self._sent_as = sent_as
        self.is_duplicate = published.duplicate
        self._log_id = published.log_id
        self._ranges = tuple(published.ranges)
        self._ends = tuple(accumulate(part.count for part in self._ranges))
        self._are_interleaved = any(part.indexes for part in self._ranges)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Receipt: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Receipt]: ...

    def __getitem__(self, index: int | slice) -> Receipt | Sequence[Receipt]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])

    def __iter__(self) -> Iterator[Receipt]:
        return map(self._at, range(len(self)))

    @cached_property
    def _places(self) -> dict[int, tuple[int, int]]:
        """With keys the messages of the queues interleave; most publishers never ask, so it is found out on demand."""
        return _places(self._ranges)

    def _at(self, index: int) -> Receipt:
        if self._sent_as:
            index = self._sent_as[index]
        if self._are_interleaved:
            number, place = self._places[index]
        else:
            number = bisect_right(self._ends, index)
            place = index - (self._ends[number] - self._ranges[number].count)
        part = self._ranges[number]
        if part.handles:
            return Receipt(part.queue, -1, "", part.handles[place])
        offset = part.first_offset + place
        return Receipt(part.queue, offset, message_id(self._log_id, part.topic_id, part.queue, offset))


def _places(ranges: Sequence[pb.Range]) -> dict[int, tuple[int, int]]:
    """Position in the publish -> (range, place in it); batches follow each other."""
    places: dict[int, tuple[int, int]] = {}
    start = 0
    sizes: dict[int, int] = {}
    for part in ranges:
        sizes[part.batch] = sizes.get(part.batch, 0) + part.count
    starts: dict[int, int] = {}
    for batch in sorted(sizes):
        starts[batch] = start
        start += sizes[batch]
    filled = dict(starts)
    for number, part in enumerate(ranges):
        indexes = part.indexes or range(filled[part.batch] - starts[part.batch], 1 << 62)
        for place, index in zip(range(part.count), indexes, strict=False):
            places[starts[part.batch] + index] = (number, place)
        filled[part.batch] += part.count
    return places
