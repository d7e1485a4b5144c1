"""Whatever rows lead to, however they are gathered and wherever an attempt ends: each message once, in order."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from broker.client.message import Message
from broker.client.publishing.receipts import Receipts
from executor.errors import RowFailed
from executor.sharding.cursor import Position
from executor.sharding.keys import Key
from executor.sharding.scan import Piece
from executor.sharding.table.questions import Row
from executor.sharding.units import Limits, Made
from executor.testing import MemoryProducer
from tests.support.rows import Clock, LocalShard, a_piece

KEYS = list(range(40))


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


def read(begin: Position, batch: int) -> Iterator[Piece]:
    """The rows of a shard behind a position, as a scan reads them; the last piece has none."""
    rest = [] if begin.is_done else [key for key in KEYS if begin.after is None or key > int(str(begin.after))]
    for start in range(0, len(rest), batch):
        keys = rest[start : start + batch]
        yield a_piece(keys, Position(keys[-1]))
    yield Piece((), Position(is_done=True))


async def attempt(producer: Mortal, counts: Sequence[int], batch: int, limits: Limits, fails_at: int) -> bool:
    """One try of the shard; whether it came to its end."""
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
            for piece in read(shard.out.begin("s"), batch):
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
    assert [message.key for _, message in before.published] == expected(counts)


def expected(counts: Sequence[int]) -> list[str | None]:
    keys: list[str | None] = []
    for key in KEYS:
        made = made_of(key, counts)
        messages = [made] if isinstance(made, Message) else made or ()
        keys += [message.key for message in messages]
    return keys
