"""The messages of one queue as a group that reads by lease sees them (docs/states.md).

Everything before `floor` is done, nothing from `next` on was ever looked at; between them only those are kept that are
not done. Functions decide from that state what shall become of messages, as a `Change`; `apply` is the only way to
change it, when the change is on its way to the log and again when it is read back.
"""

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.model import MemberId

WINDOW = 16_384  # messages of a queue that are kept at most, leased or waiting: then nothing new is handed out
NEVER_MS = 1 << 62
NO_MEMBER = MemberId("")


class State(enum.StrEnum):
    """Where a message stands in its group."""

    NEW = enum.auto()
    LEASED = enum.auto()
    WAITING = enum.auto()
    DONE = enum.auto()
    DEAD = enum.auto()


class Move(enum.StrEnum):
    """What may happen to it."""

    HAND_OUT = enum.auto()
    HOLD_BACK = enum.auto()
    PASS_OVER = enum.auto()
    ACKNOWLEDGE = enum.auto()
    RETRY = enum.auto()
    EXTEND = enum.auto()
    GIVE_BACK = enum.auto()
    GIVE_UP = enum.auto()


LEASES: Mapping[tuple[State, Move], State] = {
    (State.NEW, Move.HAND_OUT): State.LEASED,
    (State.NEW, Move.HOLD_BACK): State.WAITING,
    (State.NEW, Move.PASS_OVER): State.DONE,
    (State.WAITING, Move.HAND_OUT): State.LEASED,
    (State.WAITING, Move.PASS_OVER): State.DONE,
    (State.WAITING, Move.GIVE_UP): State.DEAD,
    (State.LEASED, Move.HAND_OUT): State.LEASED,
    (State.LEASED, Move.PASS_OVER): State.DONE,
    (State.LEASED, Move.ACKNOWLEDGE): State.DONE,
    (State.LEASED, Move.RETRY): State.WAITING,
    (State.LEASED, Move.EXTEND): State.LEASED,
    (State.LEASED, Move.GIVE_BACK): State.WAITING,
    (State.LEASED, Move.GIVE_UP): State.DEAD,
}
"""The only way from state to state; what is not here cannot happen."""


class Held(NamedTuple):
    """A message that is not done. A lease that has run out counts as waiting, and due."""

    attempt: int
    """The number of its last handing out; 0: never. `spared` of them do not count."""
    until_ms: int
    """When the lease ends, or when the message is due."""
    member: MemberId = NO_MEMBER
    """Who has it; nobody: it waits."""
    spared: int = 0
    lane: int = 0
    """Equal for ordered messages of one key, which are handed out one at a time; 0: not ordered."""
    error: str = ""

    @property
    def failures(self) -> int:
        """Attempts that count."""
        return self.attempt - self.spared

    @property
    def state(self) -> State:
        return State.LEASED if self.member else State.WAITING

    def is_with(self, member: MemberId, now_ms: int) -> bool:
        """Whether the member has it then."""
        return self.member == member and self.until_ms > now_ms


@dataclass(frozen=True, slots=True)
class Change:
    """What became of messages of one queue: `next` and all others stay as they are, these are done, those are held."""

    next: int
    done: Sequence[int] = ()
    held: Mapping[int, Held] = field(default_factory=dict)


class Leases:
    """The state of one queue in one group."""

    def __init__(self, begin: int) -> None:
        self.next = self.floor = begin  # before `floor` all are done; any thread may look at these two
        self.held: dict[int, Held] = {}  # by rising offset: what is new is added behind, the rest keeps its place
        self.leased = 0
        self._lanes: dict[int, deque[int]] = {}
        self._earliest_ms = NEVER_MS
        self._most_failures = 0  # no message has more

    @property
    def earliest_ms(self) -> int:
        """Nothing falls due before this instant."""
        return self._earliest_ms

    @property
    def holds_back(self) -> bool:
        """Whether anything here keeps other messages from being handed out."""
        return bool(self._lanes) or len(self.held) >= WINDOW

    def lease_ends(self, now_ms: int) -> Sequence[int]:
        """Of each message that a member has then; `leased` counts those too whose lease has run out since."""
        return [held.until_ms for held in self.held.values() if held.member and held.until_ms > now_ms]

    def next_expiry_ms(self) -> int:
        """When the first lease runs out."""
        return min((held.until_ms for held in self.held.values() if held.member), default=NEVER_MS)

    def apply(self, change: Change) -> None:
        """Takes the change over."""
        for offset in change.done:
            self._drop(offset)
        for offset, held in change.held.items():
            self._keep(offset, held)
        self.next = change.next
        self.floor = next(iter(self.held), self.next)

    def _drop(self, offset: int) -> None:
        held = self.held.pop(offset)
        self.leased -= bool(held.member)
        if held.lane:
            lane = self._lanes[held.lane]
            lane.remove(offset)
            if lane:
                self._earliest_ms = min(self._earliest_ms, self.held[lane[0]].until_ms)
            else:
                del self._lanes[held.lane]

    def _keep(self, offset: int, held: Held) -> None:
        before = self.held.get(offset)
        self.held[offset] = held
        self.leased += bool(held.member) - bool(before and before.member)
        self._most_failures = max(self._most_failures, held.failures)
        if held.lane and before is None:
            self._lanes.setdefault(held.lane, deque()).append(offset)
        if self.is_first(offset, held.lane):
            self._earliest_ms = min(self._earliest_ms, held.until_ms)

    def is_first(self, offset: int, lane: int) -> bool:
        """Whether no earlier message of its lane is held."""
        return not lane or lane not in self._lanes or self._lanes[lane][0] == offset

    def due(self, now_ms: int) -> Sequence[int]:
        """What can be handed out again, by offset. Looks at everything held, but only when something may be due."""
        if now_ms < self._earliest_ms:
            return ()
        free = [(offset, held.until_ms) for offset, held in self.held.items() if self.is_first(offset, held.lane)]
        self._earliest_ms = min((until_ms for _, until_ms in free), default=NEVER_MS)
        return [offset for offset, until_ms in free if until_ms <= now_ms]

    def may_have_spent(self, attempts: int, now_ms: int) -> bool:
        """Whether a message may be due that has no attempt left; any thread may ask."""
        return self._most_failures >= attempts and self._earliest_ms <= now_ms

    def spent(self, attempts: int, now_ms: int) -> Sequence[int]:
        """What is due and has no attempt left. Looks at everything held, but only when there may be any."""
        if not self.may_have_spent(attempts, now_ms):
            return ()
        self._most_failures = max((held.failures for held in self.held.values()), default=0)
        return [offset for offset in self.due(now_ms) if self.held[offset].failures >= attempts]

    def snapshot(self) -> Change:
        """What `apply` makes this state of, from an empty one."""
        return Change(self.next, (), dict(self.held))


def step(state: State, move: Move) -> State:
    """Where the move leads. Raises KeyError for what the table does not name."""
    return LEASES[state, move]


def retired(leases: Leases, lowest: int) -> Change:
    """What is not stored any more is done."""
    gone = [offset for offset in leases.held if offset < lowest] if leases.floor < lowest else []
    for offset in gone:
        step(leases.held[offset].state, Move.PASS_OVER)
    return Change(max(leases.next, lowest), gone)
