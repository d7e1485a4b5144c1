"""How much clients may have open at the same time, so that none of them grows the broker's memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from broker.delivery.room import Room
from broker.errors import TooMany
from broker.rpc.context import Context


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Of all clients together, but for the bytes of answers, which are those of one connection.

    So many streams that publish, and so many that watch transactions.
    """

    streams: int = 1_024
    reads: int = 8_192
    untaken_bytes: int = 32 << 20


DEFAULT_LIMITS = ClientLimits()


class Open:
    """Counts what is open. Belongs to one event loop."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._open = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Open inside the block. Raises TooMany."""
        if self._open >= self._limit:
            raise TooMany(what=self._what, limit=self._limit)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


class Answer:
    """The bytes of one answer until its client has taken it."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self._is_over = False

    async def reserve(self, size: int) -> None:
        """Returns when the client may get so many bytes; again it is nothing new."""
        if not self._size:
            await self._room.take(size)
            self._size = size
            self.is_made(size)

    def is_made(self, size: int) -> None:
        """It has so many bytes."""
        size = 0 if self._is_over else size
        self._room.give(self._size - size)
        self._size = size

    def end(self) -> None:
        """The client has it, or has gone."""
        self._is_over = True
        self.is_made(0)


class Untaken:
    """Answers on their way, by connection: one that does not take them gets no more. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rooms: dict[str, Room] = {}
        self._calls = Counter[str]()

    def answer(self, context: Context) -> Answer:
        """That of this call."""
        peer = str(context.peer())
        self._calls[peer] += 1
        answer = Answer(self._rooms.setdefault(peer, Room(self._limit)))
        context.add_done_callback(lambda _: self._end(peer, answer))  # type: ignore[arg-type]  # their stub is no protocol
        return answer

    def _end(self, peer: str, answer: Answer) -> None:
        answer.end()
        self._calls[peer] -= 1
        if not self._calls[peer]:
            del self._calls[peer], self._rooms[peer]
