"""Whatever befalls its holders, and in whatever order, the topic holds each row of a shard exactly once.

Real scans, publishers and producers of executors against the broker's real engine; what is between them, the admin and
the clocks are the test's: processes crash, hang anywhere, are cut off, come back late, and some have clocks that stand.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.client.publishing import shard_producer
from broker.model import HolderId, ProducerId
from broker.producers import table as producers_table
from broker.producers.rules import Producer, Verdict, judge_publish
from executor.model import Assignment, AttemptKey, RunId, Term
from executor.running.cancellation import Cancellation, Why
from executor.running.context import Context
from executor.sharding.hash import shard_of
from executor.sharding.plan import Strategy
from executor.testing import run_local
from tests.support.proof_time import seconds
from tests.support.stepped_attempt import Portal, SteppedAttempt, Table, at_once
from tests.support.wired_broker import Stream, Wire, WiredBroker

SECONDS = seconds("shard moves")
SHARDS = 2
IDS = [*range(1, 41, 3)]
STRATEGIES: Sequence[Strategy] = ("hash", "ranges")
LEASE = 3.0
STEPS = 4 * len(IDS)  # of a handler that nothing holds up; more than enough
ANY = st.sampled_from((0, 1, 2, 3))


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def a_table() -> sa.Engine:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        connection.execute(sa.text("INSERT INTO users VALUES (:id)"), [{"id": number} for number in IDS])
    return engine


@cache
def owned_by(strategy: Strategy) -> list[list[int]]:
    """The ids of each shard where nothing befalls anybody; every id is in one."""
    engine = a_table()

    def read(context: Context) -> list[int]:
        return [user.id for users in context.scan(engine, "users", strategy=strategy) for user in users]

    owned = [cast(list[int], run_local(read, shard=(index, SHARDS)).result) for index in range(SHARDS)]
    assert sorted(chain(*owned)) == IDS
    assert strategy != "hash" or all(shard_of(number, SHARDS) == 0 for number in owned[0])
    return owned


@dataclass
class Kept:
    """What the admin knows of a shard."""

    term: int = 0
    holder: SteppedAttempt | None = None
    lease_until: float = 0.0
    is_done: bool = False


class ShardMoves(RuleBasedStateMachine):
    """The shards of one run, holders that come and go, one broker."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.kept = [Kept() for _ in range(SHARDS)]
        self.pins: dict[str, str] = {}
        self.attempts: list[SteppedAttempt] = []
        self.wires: list[Wire] = []
        self.strategy: Strategy = "hash"
        self.portal, self.engine, self.stack = Portal(), a_table(), ExitStack()
        self.broker = WiredBroker(Path(self.stack.enter_context(TemporaryDirectory())) / "data")
        for name, substitute in (("dial", self.dial), ("BrokerServiceStub", lambda wire: wire), ("backoff", at_once)):
            self.stack.enter_context(patch.object(shard_producer, name, substitute))

    def dial(self, name: str) -> Wire:
        self.wires.append(Wire(self.broker, name))
        return self.wires[-1]

    async def pin(self, attempt: AttemptKey, name: str, value: str) -> str:
        return self.pins.setdefault(name, value)

    @initialize(strategy=st.sampled_from(STRATEGIES), batch=st.integers(1, 3), clock_stands=st.booleans())
    def begin(self, strategy: Strategy, batch: int, clock_stands: bool) -> None:
        self.strategy = strategy
        for index in range(SHARDS):
            self.assign(index, batch, clock_stands)

    @rule(index=st.integers(0, SHARDS - 1), batch=st.integers(1, 3), clock_stands=st.booleans())
    def take_over(self, index: int, batch: int, clock_stands: bool) -> None:
        self.now = max(self.now, self.kept[index].lease_until)
        self.assign(index, batch, clock_stands)

    @rule(index=st.integers(0, SHARDS - 1), batch=st.integers(1, 3), clock_stands=st.booleans())
    def assign(self, index: int, batch: int, clock_stands: bool) -> None:
        """Where nobody holds it, or the lease has lapsed."""
        kept, begun_at = self.kept[index], self.now
        if kept.is_done or self.now < kept.lease_until:
            return
        kept.term, kept.lease_until = kept.term + 1, self.now + LEASE
        assignment = Assignment(AttemptKey(RunId("r"), index, Term(kept.term)), "job", "handler", SHARDS)
        cancellation = Cancellation(begun_at + LEASE, lambda: begun_at if clock_stands else self.now)
        table = Table(self.engine, self.strategy, batch)
        kept.holder = SteppedAttempt(assignment, cancellation, self.pin, self.portal, table)
        self.attempts.append(kept.holder)

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.attempts)
    @rule(number=ANY, is_answered=st.booleans())
    def beat(self, number: int, is_answered: bool) -> None:
        attempt = self.attempt(number)
        kept, is_held = self.kept[attempt.key.shard], self.holds(attempt)
        if is_held and not attempt.is_over:
            kept.lease_until = self.now + LEASE
        if is_answered and is_held:
            attempt.cancellation.extend(self.now + LEASE)
        elif is_answered:
            attempt.cancellation.request(Why.LOST, "told so")

    @precondition(lambda self: self.attempts)
    @rule(number=ANY)
    def report(self, number: int) -> None:
        """What an attempt found counts if it is in time."""
        attempt = self.attempt(number)
        kept = self.kept[attempt.key.shard]
        if self.holds(attempt) and attempt.has_succeeded:
            kept.is_done, kept.lease_until = True, 0.0
        elif self.holds(attempt) and attempt.is_over:
            kept.lease_until = self.now

    @precondition(lambda self: self.attempts)
    @rule(number=ANY, steps=st.sampled_from((1, 2, 4, 8)))
    def go_on(self, number: int, steps: int) -> None:
        """The handler; nothing of what it sends has arrived behind that."""
        for _ in range(steps):
            self.attempt(number).step()
        self.portal.turn()

    @precondition(lambda self: self.attempts)
    @rule(number=ANY, steps=st.sampled_from((1, 2, 4, 12)))
    def go_well(self, number: int, steps: int) -> None:
        """With all that it sends."""
        name = str(self.attempt(number).key)
        for _ in range(steps):
            self.go_on(number, 1)
            for stream in [stream for wire in self.wires if wire.name == name for stream in wire.streams]:
                while stream.up:
                    self.broker.arrive(stream)
            self.commit(answers_arrive=True)

    @precondition(lambda self: self.attempts)
    @rule(number=ANY)
    def look_at_the_clock(self, number: int) -> None:
        if (attempt := self.attempt(number)).cancellation.has_lapsed:
            attempt.cancellation.request(Why.LOST, "it lapsed")

    @precondition(lambda self: self.attempts)
    @rule(number=ANY, is_sent=st.booleans())
    def crash(self, number: int, is_sent: bool) -> None:
        """What was sent may still arrive."""
        attempt = self.attempt(number)
        attempt.close()
        for wire in self.wires:
            if wire.name == str(attempt.key) and not is_sent:
                for stream in wire.streams:
                    stream.up.clear()

    @precondition(lambda self: self.sending)
    @rule(number=ANY, count=st.integers(1, 3))
    def arrive(self, number: int, count: int) -> None:
        stream = self.sending[number % len(self.sending)]
        for _ in range(min(count, len(stream.up))):
            self.broker.arrive(stream)

    @rule(answers_arrive=st.booleans())
    def commit(self, answers_arrive: bool) -> None:
        self.broker.commit(answers_arrive=answers_arrive)
        self.portal.turn()

    @precondition(lambda self: self.sending)
    @rule(number=ANY)
    def cut(self, number: int) -> None:
        """Its producer sends again on a new stream; what was sent on this one may still arrive."""
        self.sending[number % len(self.sending)].break_off()
        self.portal.turn()

    @rule(bytes_written=st.integers(0, 400))
    def lose_power(self, bytes_written: int) -> None:
        self.broker.lose_power(bytes_written)
        self.portal.turn()

    @rule()
    def lose_the_answer_of_the_next_open(self) -> None:
        self.broker.lost_answers = 1

    @invariant()
    def each_shard_is_stored_up_to_some_row_once_and_in_order(self) -> None:
        queues = [[*map(int, bodies)] for bodies in self.broker.stored()]
        for index, owned in enumerate(owned_by(self.strategy)):
            found = [[number for number in queue if number in owned] for queue in queues]
            assert found == [sorted(ids) for ids in found]
            stored = sorted(chain(*found))
            assert stored == owned[: len(stored)]
            assert stored == owned or not self.kept[index].is_done
            assert all(each.acknowledged <= len(stored) for each in self.attempts if each.key.shard == index)

    @invariant()
    def the_last_holder_is_not_fenced(self) -> None:
        assert not any(kept.holder.was_fenced for kept in self.kept if kept.holder is not None)

    @property
    def sending(self) -> list[Stream]:
        return [stream for wire in self.wires for stream in wire.streams if stream.up]

    def attempt(self, number: int) -> SteppedAttempt:
        """0 is the last that was begun."""
        return self.attempts[-1 - number % len(self.attempts)]

    def holds(self, attempt: SteppedAttempt) -> bool:
        kept = self.kept[attempt.key.shard]
        return kept.holder is attempt and self.now < kept.lease_until

    def complete(self, index: int) -> None:
        """A holder whom nothing befalls; late publishes of the others come at the same time."""
        kept = self.kept[index]
        self.now = max(self.now, kept.lease_until)
        self.assign(index, batch=2, clock_stands=False)
        for _ in range(0 if kept.is_done else STEPS):
            self.go_on(0, steps=2)
            while self.sending:
                self.arrive(0, count=1)
            self.commit(answers_arrive=True)
            if self.attempt(0).is_over:
                self.report(0)
                break
        assert kept.is_done

    def teardown(self) -> None:
        """Goes on to the end: nothing may be missing then."""
        try:
            self.broker.lost_answers = 0
            for index in range(SHARDS):
                self.complete(index)
                self.each_shard_is_stored_up_to_some_row_once_and_in_order()
        finally:
            for attempt in self.attempts:
                attempt.close()
            self.portal.close()
            self.broker.stop()
            self.engine.dispose()
            self.stack.close()


TestShardMoves = ShardMoves.TestCase
TestShardMoves.settings = settings(stateful_step_count=40, max_examples=60, deadline=None)


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 600)
def test_no_order_of_events_loses_or_repeats_a_row_for_long() -> None:
    until, examples = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        rounds = settings(
            stateful_step_count=80, max_examples=50, deadline=None, phases=[Phase.generate], database=None
        )
        run_state_machine_as_test(ShardMoves, settings=rounds)
        examples += 50
    print(f"{examples} runs")


@contextmanager
def by_hand() -> Iterator[ShardMoves]:
    machine = ShardMoves()
    try:
        yield machine
    finally:
        machine.teardown()


def test_a_publish_that_arrives_behind_a_takeover_is_refused_and_nothing_is_lost() -> None:
    with by_hand() as machine:
        machine.assign(0, batch=2, clock_stands=True)
        machine.go_on(0, steps=2)
        machine.time_passes(3)
        machine.assign(0, batch=3, clock_stands=False)
        machine.go_on(0, steps=1)
        machine.arrive(0, count=1)
        machine.commit(answers_arrive=True)
        late, heir = machine.attempts
        late.step()
        late.step()
        assert (late.was_fenced, late.acknowledged) == (True, 0)
    assert not heir.was_fenced


def test_an_answer_that_is_lost_leads_to_a_second_copy_that_is_stored_once() -> None:
    with by_hand() as machine:
        machine.assign(0, batch=2, clock_stands=False)
        machine.go_on(0, steps=4)
        machine.arrive(0, count=2)
        machine.commit(answers_arrive=False)
        assert len(machine.sending[0].up) == 2, "the same publishes again"
        machine.arrive(0, count=2)
        machine.commit(answers_arrive=True)
        assert machine.attempts[0].acknowledged == 4
        machine.each_shard_is_stored_up_to_some_row_once_and_in_order()


def test_a_holder_that_has_sent_everything_has_not_succeeded_before_all_is_acknowledged() -> None:
    with by_hand() as machine:
        machine.assign(0, batch=2, clock_stands=False)
        machine.go_on(0, steps=STEPS)
        machine.report(0)
        assert (machine.attempts[0].has_succeeded, machine.kept[0].is_done) == (False, False)
        machine.go_well(0, steps=2)
        machine.report(0)
        assert (machine.attempts[0].has_succeeded, machine.kept[0].is_done) == (True, True)


def test_without_the_fence_at_publish_it_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(producer_id: ProducerId, state: Producer | None, _: int, __: HolderId, sequence: int) -> Verdict:
        assert state is not None
        return judge_publish(producer_id, state, state.term, state.holder_id, sequence)

    monkeypatch.setattr(producers_table, "judge_publish", trusting)
    rounds = settings(stateful_step_count=40, max_examples=300, deadline=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(ShardMoves, settings=rounds)
