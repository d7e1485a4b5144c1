"""A broker in plain lists: what its topics hold, what its groups have read and who has which message.

Knows nothing of how the broker does it. Every method that takes over what the broker answered checks it first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

At = tuple[str, int]
"""A queue: topic and number."""

Place = tuple[str, int, int]
"""A message: topic, queue and offset."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as its sender knows it; `body` is like no other's. `queue`: chosen by the sender."""

    topic: str
    body: bytes
    key: str = ""
    ordered: bool = False
    queue: int | None = None
    deliver_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a queue: the `arrival`th of all, at an instant."""

    sent: Sent
    arrival: int
    at_ms: int


@dataclass(slots=True)
class Topic:
    """Queues as lists, the place in the list is the offset; what lies before `lowest` is gone."""

    write_queues: int
    retention_ms: int | None = None
    queues: list[list[Stored]] = field(default_factory=list)
    lowest: list[int] = field(default_factory=list)
    read_queues: int = 0
    was_altered: bool = False

    def __post_init__(self) -> None:
        self.read(max(self.write_queues, self.read_queues))

    def read(self, read_queues: int) -> None:
        """So many queues can be read from now on; what others held is gone."""
        while len(self.queues) < read_queues:
            self.queues.append([])
            self.lowest.append(0)
        for queue in range(read_queues, len(self.queues)):
            self.lowest[queue] = len(self.queues[queue])
        self.read_queues = read_queues

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Lowest and end offset of each queue that can be read."""
        return [(self.lowest[queue], len(self.queues[queue])) for queue in range(self.read_queues)]


@dataclass(slots=True)
class Handing:
    """What a group that leases knows of one message that it has seen."""

    attempt: int
    failures: int
    member: str | None
    until_ms: int
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: of which message, after how many attempts."""

    place: Place
    stored: Stored
    attempts: int


@dataclass(slots=True)
class Group:
    """A consumer group. By offset: `committed`; by lease: `begun` queues and `handings`; both: dead letters."""

    members: set[str] = field(default_factory=set)
    committed: dict[At, int] = field(default_factory=dict)
    owners: dict[At, tuple[str, int]] = field(default_factory=dict)
    handings: dict[Place, Handing] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)


class Model:
    """The whole broker."""

    def __init__(self, topics: dict[str, Topic]) -> None:
        self.topics = topics
        self._arrivals = 0

    def store(self, at: At, sent: Sent, at_ms: int) -> None:
        """The message is the next one of the queue."""
        self._arrivals += 1
        self._append(at, sent, self._arrivals, at_ms)

    def _append(self, at: At, sent: Sent, arrival: int, at_ms: int) -> None:
        self.topics[at[0]].queues[at[1]].append(Stored(sent, arrival, at_ms))

    def take(self, places: Iterable[tuple[Place, Sent]], at_ms: int) -> None:
        """Takes over where the broker says that it put messages: at the next offsets, and keys where they belong."""
        for (name, queue, offset), sent in places:
            topic = self.topics[name]
            assert offset == len(topic.queues[queue]), f"{name}/{queue} goes on at {offset}"
            self._check_queue(topic, queue, sent)
            self.store((name, queue), sent, at_ms)

    def take_tails(self, tails: Mapping[At, Sequence[bytes]], expected: Sequence[Sent], at_ms: int) -> None:
        """Takes over what is new behind the ends: these messages, each once, those of a key in this order."""
        found = Counter(body for bodies in tails.values() for body in bodies)
        assert found == Counter(sent.body for sent in expected)
        rank = {sent.body: (number, sent) for number, sent in enumerate(expected, 1)}
        for at, bodies in tails.items():
            last = dict[str, int]()
            for number, sent in (rank[body] for body in bodies):
                assert not sent.key or last.get(sent.key, 0) < number, f"{sent.key} is out of order in {at}"
                last[sent.key] = number
                self._check_queue(self.topics[at[0]], at[1], sent)
                self._append(at, sent, self._arrivals + number, at_ms)
        self._arrivals += len(expected)

    def _check_queue(self, topic: Topic, queue: int, sent: Sent) -> None:
        assert queue < topic.write_queues
        if sent.queue is not None:
            assert queue == sent.queue % topic.write_queues
        elif sent.key:
            assert queue == crc32(sent.key.encode()) % topic.write_queues

    def at(self, place: Place) -> Stored:
        name, queue, offset = place
        return self.topics[name].queues[queue][offset]

    def places(self, topic: str) -> Iterator[Place]:
        """Of everything that the topic holds."""
        for queue, held in enumerate(self.topics[topic].queues):
            yield from ((topic, queue, offset) for offset in range(self.topics[topic].lowest[queue], len(held)))

    def check_order(self, place: Place, is_done: Callable[[Place], bool]) -> None:
        """A message is handed to a group only when all earlier ones of its key in other queues are done there."""
        name, own, _ = place
        stored = self.at(place)
        if not stored.sent.key or stored.sent.queue is not None:
            return
        for queue, held in enumerate(self.topics[name].queues):
            for offset in range(self.topics[name].lowest[queue], len(held)):
                other = held[offset]
                if queue != own and other.sent.key == stored.sent.key and other.arrival < stored.arrival:
                    assert is_done((name, queue, offset)), f"{place} came before {(name, queue, offset)}"
