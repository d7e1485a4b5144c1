"""Where a shard's rows lie: the stretches of the key's order that its scan goes through, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile

from executor.model import Shard
from executor.sharding.cursor import Position
from executor.sharding.keys import Key


@dataclass(frozen=True, slots=True)
class Stretch:
    """The keys behind `lower` (None: from the first) up to `upper`, of one bucket or of the whole table."""

    upper: Key
    lower: Key | None = None
    bucket: int | None = None


def of_range(shard: Shard, bounds: Sequence[Key], upper: Key) -> Iterator[Stretch]:
    """`bounds` are the upper ends of all shards but the last."""
    lower = bounds[shard.index - 1] if shard.index else None
    yield Stretch(bounds[shard.index] if shard.index < len(bounds) else upper, lower)


def of_buckets(shard: Shard, buckets: int, upper: Key) -> Iterator[Stretch]:
    """Every total-th bucket: where total divides their number, those are the ones of the shard's own hashes."""
    for bucket in range(shard.index, buckets, shard.total):
        yield Stretch(upper, bucket=bucket)


def remaining(stretches: Iterator[Stretch], begin: Position) -> Iterator[Stretch]:
    """What lies behind a position."""
    if begin.is_done:
        return
    rest = (
        dropwhile(lambda stretch: stretch.bucket != begin.bucket, stretches) if begin.bucket is not None else stretches
    )
    for number, stretch in enumerate(rest):
        is_begun = number == 0 and begin.after is not None
        yield Stretch(stretch.upper, begin.after, stretch.bucket) if is_begun else stretch
