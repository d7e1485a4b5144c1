"""Runs that were placed on queues before their topics changed, placed again."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from zlib import crc32

from broker.log.record import Piece, Records, decode_records
from broker.model import Topic, TopicId
from broker.queues.encoding import EncodedRun

TopicOf = Callable[[TopicId], Topic | None]


def placed(runs: Sequence[EncodedRun], topic_of: TopicOf) -> Sequence[EncodedRun]:
    """The runs on the queues that their topics have now, without those of deleted topics."""
    if all(_stands(run, topic_of(run.key.topic_id)) for run in runs):
        return runs
    return [*_placed_again(runs, topic_of)]


def _stands(run: EncodedRun, topic: Topic | None) -> bool:
    if topic is None:
        return False
    return run.placed_over == topic.write_queues or (not run.placed_over and run.key.queue < topic.write_queues)


def _placed_again(runs: Sequence[EncodedRun], topic_of: TopicOf) -> Iterator[EncodedRun]:
    """All with their indexes told: a run before may be another one now."""
    batch, expected = -1, 0
    for run in runs:
        expected = expected if run.batch == batch else 0
        indexes = run.indexes or range(expected, expected + len(run.records.sizes))
        batch, expected = run.batch, indexes[-1] + 1
        topic = topic_of(run.key.topic_id)
        if topic is not None:
            whole = run._replace(indexes=[*indexes])
            yield from [whole] if _stands(run, topic) else _split(whole, topic.write_queues)


def _split(run: EncodedRun, queues: int) -> Iterator[EncodedRun]:
    """By key, and where there is none, or where somebody chose the queue, by what is left of its number."""
    by_queue = dict[int, list[int]]()
    for at, key in enumerate(_keys(run.records)):
        queue = (crc32(key) if key and run.placed_over else run.key.queue) % queues
        by_queue.setdefault(queue, []).append(at)
    for queue, chosen in by_queue.items():
        yield run._replace(
            key=run.key._replace(queue=queue),
            indexes=_pick(run.indexes, chosen),
            records=_pick_records(run.records, chosen),
            dues=_pick(run.dues, chosen),
            key_hashes=None,
            placed_over=queues if run.placed_over else 0,
        )


def _keys(records: Records) -> Sequence[bytes]:
    columns, _ = decode_records([Piece(records.data, _starts(records), records.sizes)])
    return columns.keys or [b""] * len(records.sizes)


def _pick_records(records: Records, chosen: Sequence[int]) -> Records:
    starts, sizes = _starts(records), records.sizes
    return Records(
        b"".join(records.data[starts[at] : starts[at] + sizes[at]] for at in chosen),
        _pick(sizes, chosen),
        _pick(records.tag_hashes, chosen),
        _pick(records.lanes, chosen),
    )


def _pick(column: Sequence[int], chosen: Sequence[int]) -> list[int]:
    return [column[at] for at in chosen] if column else []


def _starts(records: Records) -> list[int]:
    return [*accumulate(records.sizes, initial=0)][:-1]
