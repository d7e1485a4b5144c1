"""One slice of a run, and the table of all that can happen to it."""

import enum
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, assert_never

from admin.domain.errors import IllegalMove
from admin.domain.names import Attempt, ExecutorId, RunId, ShardKey


class ShardState(enum.StrEnum):
    """Where a shard stands."""

    WAITING = enum.auto()
    ASSIGNED = enum.auto()
    RUNNING = enum.auto()
    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()
    LOST = enum.auto()
    SKIPPED = enum.auto()


HELD = frozenset({ShardState.ASSIGNED, ShardState.RUNNING})
OPEN = HELD | {ShardState.WAITING}


class Move(enum.StrEnum):
    """What can happen to a shard."""

    ASSIGN = enum.auto()
    BEAT = enum.auto()
    HAND_BACK = enum.auto()
    RETRY = enum.auto()
    SUCCEED = enum.auto()
    FAIL = enum.auto()
    CANCEL = enum.auto()
    LOSE = enum.auto()
    SKIP = enum.auto()
    REOPEN = enum.auto()


TABLE: Mapping[tuple[ShardState, Move], ShardState] = {
    (ShardState.WAITING, Move.ASSIGN): ShardState.ASSIGNED,
    (ShardState.WAITING, Move.CANCEL): ShardState.CANCELLED,
    (ShardState.ASSIGNED, Move.BEAT): ShardState.RUNNING,
    (ShardState.ASSIGNED, Move.HAND_BACK): ShardState.WAITING,
    (ShardState.ASSIGNED, Move.RETRY): ShardState.WAITING,
    (ShardState.ASSIGNED, Move.SUCCEED): ShardState.SUCCEEDED,
    (ShardState.ASSIGNED, Move.FAIL): ShardState.FAILED,
    (ShardState.ASSIGNED, Move.CANCEL): ShardState.CANCELLED,
    (ShardState.ASSIGNED, Move.LOSE): ShardState.LOST,
    (ShardState.ASSIGNED, Move.SKIP): ShardState.SKIPPED,
    (ShardState.RUNNING, Move.BEAT): ShardState.RUNNING,
    (ShardState.RUNNING, Move.HAND_BACK): ShardState.WAITING,
    (ShardState.RUNNING, Move.RETRY): ShardState.WAITING,
    (ShardState.RUNNING, Move.SUCCEED): ShardState.SUCCEEDED,
    (ShardState.RUNNING, Move.FAIL): ShardState.FAILED,
    (ShardState.RUNNING, Move.CANCEL): ShardState.CANCELLED,
    (ShardState.RUNNING, Move.LOSE): ShardState.LOST,
    (ShardState.RUNNING, Move.SKIP): ShardState.SKIPPED,
    (ShardState.FAILED, Move.REOPEN): ShardState.WAITING,
    (ShardState.LOST, Move.REOPEN): ShardState.WAITING,
}
"""The only way from state to state; what is not here cannot happen."""


class Counters(NamedTuple):
    """As of the last acknowledged publish; rows and published include earlier attempts."""

    rows: int = 0
    published: int = 0
    cursor: str = ""
    done: int = 0
    total: int = 0
    counts: str = ""
    """JSON text of what its handler counted, by name; earlier attempts included."""


NOTHING_YET = Counters()
MOST_OF_A_RUN = 2**63 - 1  # that a count is told to be


def counts_of(counters: Counters) -> Mapping[str, int]:
    """What a shard's handler counted, by name."""
    found: Mapping[str, int] = json.loads(counters.counts) if counters.counts else {}
    return found


def sum_of_counts(shards: Iterable["Shard"]) -> Mapping[str, int]:
    """What the handlers of a run counted, by name."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(counts_of(shard.counters))
    return {name: min(count, MOST_OF_A_RUN) for name, count in sorted(total.items())}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the last attempt failed."""

    code: str
    message: str
    traceback: str = ""


class Shard(NamedTuple):
    """A shard as it is kept. A tuple, as are runs and jobs: thousands a second are made, at a third of the cost."""

    run_id: RunId
    index: int  # type: ignore[assignment]  # a method of tuples, which nobody asks of this one
    total: int
    state: ShardState
    due_at: datetime  # not assigned before
    attempt: int = 0  # tries begun that count
    term: int = 0  # of the last assignment
    losses: int = 0  # holders that fell silent
    reported_term: int = 0  # of the last report that was accepted
    holder: ExecutorId | None = None  # the last one
    holder_name: str = ""
    leased_until_at: datetime | None = None  # while it is held
    deadline_at: datetime | None = None  # while it is held and has a timeout; no lease lasts longer
    started_at: datetime | None = None  # the last attempt
    ended_at: datetime | None = None
    counters: Counters = NOTHING_YET
    fault: Fault | None = None
    result: str = ""

    @property
    def key(self) -> ShardKey:
        return ShardKey(self.run_id, self.index)

    @property
    def current(self) -> Attempt:
        return Attempt(self.run_id, self.index, self.term)


@dataclass(frozen=True, slots=True)
class Assigned:
    """An executor gets the shard, under the next term."""

    at: datetime
    holder: ExecutorId
    holder_name: str
    leased_until_at: datetime
    deadline_at: datetime | None = None
    move = Move.ASSIGN


@dataclass(frozen=True, slots=True)
class Beaten:
    """The holder gave a sign of life."""

    at: datetime
    leased_until_at: datetime
    move = Move.BEAT


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The attempt is void and does not count: refused, released, fenced, or its holder fell silent."""

    at: datetime
    due_at: datetime
    is_reported: bool
    is_loss: bool = False
    least_term: int = 0  # the highest term that is known elsewhere
    counters: Counters | None = None
    move = Move.HAND_BACK


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed, and there is another one."""

    at: datetime
    due_at: datetime
    is_reported: bool
    fault: Fault
    counters: Counters | None = None
    move = Move.RETRY


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over: `move` is one of succeed, fail, cancel, lose, skip."""

    at: datetime
    move: Move
    is_reported: bool
    fault: Fault | None = None
    counters: Counters | None = None
    result: str = ""


@dataclass(frozen=True, slots=True)
class Reopened:
    """Somebody asked to go on with what failed; attempts and losses are counted anew."""

    at: datetime
    move = Move.REOPEN


Event = Assigned | Beaten | HandedBack | Retried | Ended | Reopened


def step(shard: Shard, event: Event) -> Shard:
    """The shard behind the event. Raises IllegalMove for what the table does not name."""
    state = TABLE.get((shard.state, event.move))
    if state is None:
        raise IllegalMove(state=shard.state, move=event.move)
    match event:
        case Assigned():
            return _assigned(shard, state, event)
        case Beaten():
            began_at = shard.started_at or event.at
            return shard._replace(state=state, leased_until_at=event.leased_until_at, started_at=began_at)
        case HandedBack():
            return _handed_back(shard, state, event)
        case Retried():
            return _freed(shard, event, state=state, due_at=event.due_at, fault=event.fault)
        case Ended():
            return _freed(shard, event, state=state, fault=event.fault, result=event.result)
        case Reopened():
            return shard._replace(state=state, due_at=event.at, attempt=0, losses=0, ended_at=None)
        case _:
            assert_never(event)


def _assigned(shard: Shard, state: ShardState, event: Assigned) -> Shard:
    return shard._replace(
        state=state,
        attempt=shard.attempt + 1,
        term=shard.term + 1,
        holder=event.holder,
        holder_name=event.holder_name,
        leased_until_at=event.leased_until_at,
        deadline_at=event.deadline_at,
        started_at=None,
        ended_at=None,
    )


def _handed_back(shard: Shard, state: ShardState, event: HandedBack) -> Shard:
    return _freed(
        shard,
        event,
        state=state,
        due_at=event.due_at,
        attempt=shard.attempt - 1,
        losses=shard.losses + event.is_loss,
        term=max(shard.term, event.least_term),
    )


def _freed(shard: Shard, event: HandedBack | Retried | Ended, **changes: Any) -> Shard:
    """Nobody holds it any more."""
    return shard._replace(
        reported_term=shard.term if event.is_reported else shard.reported_term,
        leased_until_at=None,
        deadline_at=None,
        ended_at=event.at,
        counters=event.counters or shard.counters,
        **changes,
    )
