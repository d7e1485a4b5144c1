"""Which messages of a queue a member gets next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.delivery.leases.state import WINDOW, Change, Held, Leases, Move, State, step
from broker.model import MemberId


class Entry(NamedTuple):
    """A message of the queue as its index knows it: where its record lies, hash of its tag, lane of its key."""

    offset: int
    position: int
    size: int
    tag: int
    lane: int


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for how much: messages, and bytes of records, of which one message may have more.

    `attempts` is how many a message has before it is given up.
    """

    member: MemberId
    now_ms: int
    until_ms: int
    messages: int
    bytes: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Handing:
    """What the member gets, and what has no attempt left."""

    change: Change
    taken: Sequence[Entry]
    dead: Sequence[Entry]

    @property
    def bytes(self) -> int:
        """Of records, of all that it names."""
        return sum(entry.size for entry in (*self.taken, *self.dead))


def hand_out_again(leases: Leases, asking: Asking, due: Iterable[Entry]) -> Handing:
    """Of messages that are due: those without an attempt left are given up, the others handed out."""
    handing = _Handing(leases, asking)
    for entry in due:
        if not handing.has_room(entry):
            break
        held = leases.held[entry.offset]
        if held.failures >= asking.attempts:
            handing.give_up(entry, held.state)
        else:
            handing.take(entry, held)
    return handing.result(leases.next)


def hand_out_new(leases: Leases, asking: Asking, entries: Iterable[Entry], end: int) -> Handing:
    """Of the messages from `next` up to, not including, `end`: those that are not among the entries are passed over.

    Goes on until there is enough, or the window is full.
    """
    handing = _Handing(leases, asking)
    for entry in entries:
        if not handing.has_room(entry) or handing.fills_window():
            return handing.result(entry.offset)
        handing.take_new(entry)
    return handing.result(end)


class _Handing:
    """Takes messages one after the other."""

    def __init__(self, leases: Leases, asking: Asking) -> None:
        self._leases = leases
        self._asking = asking
        self._bytes = 0
        self._taken: list[Entry] = []
        self._dead: list[Entry] = []
        self._held: dict[int, Held] = {}
        self._lanes: set[int] = set()
        self._new = Held(1, asking.until_ms, asking.member)  # one for all that are handed out for the first time

    def has_room(self, entry: Entry) -> bool:
        if len(self._taken) >= self._asking.messages:
            return False
        return not self._bytes or self._bytes + entry.size <= self._asking.bytes

    def fills_window(self) -> bool:
        return len(self._leases.held) + len(self._held) >= WINDOW

    def give_up(self, entry: Entry, state: State) -> None:
        step(state, Move.GIVE_UP)
        self._dead.append(entry)
        self._bytes += entry.size

    def take(self, entry: Entry, held: Held) -> None:
        step(held.state, Move.HAND_OUT)
        asking = self._asking
        self._held[entry.offset] = held._replace(
            attempt=held.attempt + 1, until_ms=asking.until_ms, member=asking.member
        )
        self._add(entry)

    def take_new(self, entry: Entry) -> None:
        """Or holds it back behind an earlier message of its lane."""
        if entry.lane and (entry.lane in self._lanes or not self._leases.is_first(entry.offset, entry.lane)):
            step(State.NEW, Move.HOLD_BACK)
            self._held[entry.offset] = Held(0, 0, lane=entry.lane)
            return
        step(State.NEW, Move.HAND_OUT)
        self._held[entry.offset] = self._new._replace(lane=entry.lane) if entry.lane else self._new
        if entry.lane:
            self._lanes.add(entry.lane)
        self._add(entry)

    def _add(self, entry: Entry) -> None:
        self._taken.append(entry)
        self._bytes += entry.size

    def result(self, behind: int) -> Handing:
        done = [entry.offset for entry in self._dead]
        return Handing(Change(behind, done, self._held), self._taken, self._dead)
