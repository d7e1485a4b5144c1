"""A batch gives its messages one by one or all at once."""

import itertools
from collections.abc import Mapping, Sequence

import pytest

from broker.client.message import Attributes, Batch, Columns, Message, ReceivedMessage

PROPERTIES: Mapping[int, Attributes] = {1: ({"a": "b"}, 0, False), 2: ({}, 5_000, True)}


def a_batch(count: int, tags: Sequence[str], attributes: Mapping[int, Attributes], *, is_scattered: bool) -> Batch:
    more = {"offsets": [3 * n for n in range(count)], "queues": [*range(count)], "attempts": [2] * count}
    keys = ["" if n % 2 else f"k{n}" for n in range(count)]
    bodies = [b"%d" % n for n in range(count)]
    columns = Columns(bodies, keys, tags, [*range(count)], attributes, **(more if is_scattered else {}))  # type: ignore[arg-type]
    return Batch("t", 2, 1, 7, "log", 9, columns)


@pytest.mark.parametrize(
    ("tags", "attributes", "is_scattered"),
    [*itertools.product(([], [""], ["a"], ["a", "", "b", "a"]), ({}, PROPERTIES), (False, True))],
)
def test_all_messages_of_a_batch_are_the_same_as_each_of_them(
    tags: Sequence[str], attributes: Mapping[int, Attributes], is_scattered: bool
) -> None:
    batch = a_batch(4, tags, attributes, is_scattered=is_scattered)
    assert list(batch) == [batch[n] for n in range(4)] == batch[:]
    assert {type(message) for message in batch} == {ReceivedMessage}


def test_a_batch_may_be_empty() -> None:
    assert list(a_batch(0, [], {}, is_scattered=False)) == []


def test_a_message_of_a_batch_is_where_it_stands() -> None:
    [first, second] = a_batch(2, ["vip"], PROPERTIES, is_scattered=False)
    assert first == ReceivedMessage(b"0", "k0", "vip", {}, "t", queue=2, offset=7, log_id="log", topic_id=9)
    assert (second.key, second.offset, second.properties) == (None, 8, {"a": "b"})
    assert first != Message(b"0", "k0", "vip", {}, "t")
