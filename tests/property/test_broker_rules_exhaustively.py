"""Every order of events in a tiny world: three rows, three holders, a broker that syncs,
answers, loses answers and crashes.

Breadth first over the rules as they are in broker.producers.rules. In each world reached, the rows stored are a prefix
of the table, each once; in each world where a holder reports success, they are the whole table.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from broker.errors import BrokerError
from broker.model import HolderId, ProducerId
from broker.producers.rules import Producer, Verdict, check_holder, judge_publish, opened, published

ROWS = 3
ID = ProducerId("run/r/0")
judge = judge_publish


@dataclass(frozen=True, slots=True)
class Frame:
    """A publish of some rows, or a fence."""

    term: int
    holder: int
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """Publishes so many rows at once, from the row on where its open told it to begin."""

    term: int
    batch: int
    begun_at: int | None = None
    first_sequence: int = 0
    sent: int = 0
    acknowledged: int = 0
    is_out: bool = False

    def rows(self, index: int) -> tuple[int, ...]:
        """Those of its publish with this index; none behind the end of the table."""
        assert self.begun_at is not None
        begin = self.begun_at + index * self.batch
        return (*range(begin, min(begin + self.batch, ROWS)),)


@dataclass(frozen=True, slots=True)
class World:
    """`log` is durable, `tail` is written but not synced; a request in flight is (holder, index of what it sent)."""

    log: tuple[Frame, ...] = ()
    tail: tuple[Frame, ...] = ()
    holders: tuple[Holder, ...] = (Holder(1, 1), Holder(2, 2), Holder(2, 1))
    in_flight: tuple[tuple[int, int], ...] = ()
    waiting: frozenset[tuple[int, int]] = frozenset()  # for the sync; then they are acknowledged
    crashes: int = 0

    def with_holder(self, number: int, holder: Holder) -> "World":
        return replace(self, holders=(*self.holders[:number], holder, *self.holders[number + 1 :]))


def state_of(frames: tuple[Frame, ...]) -> Producer | None:
    state: Producer | None = None
    for position, frame in enumerate(frames):
        if not frame.rows:
            state = opened(state, frame.term, HolderId(str(frame.holder)), 0)
        else:
            assert state is not None
            state = published(state, state.last_sequence + 1, b"%d" % (frame.rows[-1] + 1), 0, position)
    return state


def opens(world: World) -> Iterator[World]:
    """The answer arrives, or it is lost and the holder may ask again."""
    for number, holder in enumerate(world.holders):
        if holder.begun_at is None and not holder.is_out:
            state = state_of(world.log + world.tail)
            try:
                if state is not None:
                    check_holder(ID, state, holder.term, HolderId(str(number)))
            except BrokerError:
                yield world.with_holder(number, replace(holder, is_out=True))
                continue
            is_new = state is None or holder.term > state.term
            fence = (Frame(holder.term, number),) if is_new else ()
            durable = replace(world, log=world.log + world.tail + fence, tail=())  # answered behind a sync
            if is_new:
                yield durable
            cursor, last = (state.cursor, state.last_sequence) if state is not None else (None, 0)
            begun = replace(holder, begun_at=int(cursor or b"0"), first_sequence=last + 1)
            yield durable.with_holder(number, begun)


def sends(world: World) -> Iterator[World]:
    for number, holder in enumerate(world.holders):
        if holder.begun_at is not None and not holder.is_out and holder.rows(holder.sent):
            sent = world.with_holder(number, replace(holder, sent=holder.sent + 1))
            yield replace(sent, in_flight=(*world.in_flight, (number, holder.sent)))


def arrives(world: World) -> Iterator[World]:
    """The first request of any stream reaches the broker."""
    for number in range(len(world.holders)):
        mine = [request for request in world.in_flight if request[0] == number]
        if mine:
            rest = list(world.in_flight)
            rest.remove(mine[0])
            yield judged(replace(world, in_flight=tuple(rest)), *mine[0])


def judged(world: World, number: int, index: int) -> World:
    holder = world.holders[number]
    sequence = holder.first_sequence + index
    try:
        verdict = judge(ID, state_of(world.log + world.tail), holder.term, HolderId(str(number)), sequence)
    except BrokerError:
        return world.with_holder(number, replace(holder, is_out=True))
    frame = (Frame(holder.term, number, holder.rows(index)),) if verdict is Verdict.STORE else ()
    return replace(world, tail=world.tail + frame, waiting=world.waiting | {(number, index)})


def syncs(world: World) -> Iterator[World]:
    """Everything waiting is acknowledged, or the answers are lost with their streams."""
    if world.tail or world.waiting:
        durable = replace(world, log=world.log + world.tail, tail=(), waiting=frozenset())
        yield durable
        for number, index in world.waiting:
            holder = durable.holders[number]
            acknowledged = max(holder.acknowledged, index + 1)
            durable = durable.with_holder(number, replace(holder, acknowledged=acknowledged))
        yield durable


def sends_again(world: World) -> Iterator[World]:
    """A new stream: what was in flight is lost, everything unacknowledged goes again, in order."""
    for number, holder in enumerate(world.holders):
        if holder.acknowledged < holder.sent and not holder.is_out:
            others = tuple(request for request in world.in_flight if request[0] != number)
            again = tuple((number, index) for index in range(holder.acknowledged, holder.sent))
            yield replace(world, in_flight=others + again)


def crashes(world: World) -> Iterator[World]:
    """Any part of what was not synced may have reached the disk; whole frames, from the front."""
    if not world.crashes:
        for kept in range(len(world.tail) + 1):
            log = world.log + world.tail[:kept]
            yield replace(world, log=log, tail=(), in_flight=(), waiting=frozenset(), crashes=world.crashes + 1)


EVENTS: tuple[Callable[[World], Iterator[World]], ...] = (
    opens,
    sends,
    arrives,
    syncs,
    sends_again,
    crashes,
)


def check(world: World) -> None:
    stored = [row for frame in world.log + world.tail for row in frame.rows]
    assert stored == [*range(len(stored))]
    durable = sum(len(frame.rows) for frame in world.log)
    for holder in world.holders:
        if holder.acknowledged:
            last = holder.rows(holder.acknowledged - 1)[-1]
            assert last < durable  # and when it is the last of the table, the holder reports success


def explore() -> set[World]:
    """Every world that can be reached; raises AssertionError in the first that must not be."""
    seen = {World()}
    todo = deque(seen)
    while todo:
        world = todo.popleft()
        check(world)
        for event in EVENTS:
            fresh = set(event(world)) - seen
            seen |= fresh
            todo.extend(fresh)
    return seen


def test_no_order_of_events_loses_or_repeats_a_row() -> None:
    seen = explore()
    assert any(world.holders[0].acknowledged == ROWS for world in seen)
    assert any(world.holders[0].is_out and world.holders[1].acknowledged for world in seen)


def test_without_the_check_of_term_and_holder_a_row_would_be_lost_or_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(
        producer_id: ProducerId, state: Producer | None, _term: int, _holder: HolderId, sequence: int
    ) -> Verdict:
        assert state is not None
        return judge_publish(producer_id, state, state.term, state.holder_id, sequence)

    monkeypatch.setitem(globals(), "judge", trusting)
    with pytest.raises(AssertionError):
        explore()
