"""Whatever rows lead to, however they are gathered and wherever an attempt ends: each message once, in order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from executor.errors import RowFailed
from executor.model import Shard
from executor.sharding.cursor import Key, Position
from executor.sharding.scan import Row, read_shard
from executor.sharding.units import Limits, Made
from executor.testing import MemoryProducer
from tests.property.test_scan_properties import a_table
from tests.support.rows import Clock, LocalShard

KEYS = list(range(60))
SHARD = Shard(0, 2)


class Crash(Exception):
    """The process dies here."""


class Mortal(MemoryProducer):
    """Dies behind so many publishes."""

    def __init__(self, before: MemoryProducer, left: int) -> None:
        super().__init__(cursor=before.cursor, published=before.published)
        self.left = left
        self.units: list[int] = []

    async def publish(
        self, topic: str, messages: Sequence[Message], cursor: bytes | None = None
    ) -> asyncio.Future[Receipts]:
        if self.left == 0:
            raise Crash
        self.left -= 1
        self.units.append(len(messages))
        return await super().publish(topic, messages, cursor)


def made_of(key: Key, counts: Sequence[int]) -> Made:
    """One message, several of 0 to 4, or None; they grow with their key."""
    count = counts[int(key) % len(counts)]
    if count < 0:
        return None
    messages = [Message(b"x" * int(key), key=f"{key}.{n}") for n in range(count)]
    return messages[0] if count == 1 else messages


async def attempt(producer: Mortal, counts: Sequence[int], batch: int, limits: Limits, fails_at: int) -> bool:
    """One try of the shard; whether it came to its end."""
    source, upper = a_table(KEYS)
    shard, clock, made_rows = LocalShard(producer), Clock(), 0

    def make(row: Row) -> Made:
        nonlocal made_rows
        made_rows += 1
        clock.now += 0.01
        if made_rows == fails_at:
            raise ValueError(row)
        return made_of(row, counts)  # type: ignore[arg-type]  # a row is its key

    with suppress(Crash, RowFailed):
        async with shard.publisher(limits, clock=clock) as publisher:
            for piece in read_shard(source, upper, SHARD, shard.out.begin("s"), batch=batch, page=7):
                if piece.rows:
                    await publisher.publish_each(shard.rows(piece), make)
                else:
                    await shard.out.pass_over("s", piece.position)
        return True
    return False


@given(
    counts=st.lists(st.integers(-1, 4), min_size=1, max_size=7),
    ends=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40)), max_size=5),
    batches=st.lists(st.integers(1, 40), min_size=6, max_size=6),
    limits=st.builds(Limits, st.integers(1, 12), st.integers(1, 2_000), st.sampled_from([0.0, 0.05, 10.0])),
)
def test_each_message_is_published_once_and_in_order_over_all_attempts(
    counts: list[int], ends: list[tuple[int, int]], batches: list[int], limits: Limits
) -> None:
    before: MemoryProducer = MemoryProducer()
    tries = [*ends, (-1, -1)]
    for (left, fails_at), batch in zip(tries, batches, strict=False):
        producer = Mortal(before, left)
        is_done = asyncio.run(attempt(producer, counts, batch, limits, fails_at))
        before = producer
        assert all(count <= max(limits.messages, 4) for count in producer.units)
    assert is_done
    source, upper = a_table(KEYS)
    rows = [row for piece in read_shard(source, upper, SHARD, Position()) for row in piece.rows]
    assert [message.key for _, message in before.published] == expected(rows, counts)


def expected(rows: Sequence[Row], counts: Sequence[int]) -> list[str | None]:
    keys: list[str | None] = []
    for row in rows:
        made = made_of(row, counts)  # type: ignore[arg-type]
        messages = [made] if isinstance(made, Message) else made or ()
        keys += [message.key for message in messages]
    return keys
