"""Whatever the order of assignments, beats, lapses, reports, late reports and restarts: each shard ends once."""

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from admin.domain.names import Attempt, ExecutorId, Group, HandlerName
from admin.domain.routing import Room, route
from admin.domain.run import Outcome, OutcomeState, Verdict, on_beat, on_cancel, on_lapse, on_outcome, verdict
from admin.domain.shard import OPEN, Counters, Shard
from admin.ports import Change, Offer, Takers
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from tests.support.admin_factories import LEASE, NOW, definition
from tests.support.admin_factories import run as run_of
from tests.support.admin_twins import done

EXECUTORS = [ExecutorId("one"), ExecutorId("two")]
SHARDS = 3
ATTEMPTS = 2
OFFERS = {Group("promotion"): Offer(frozenset({HandlerName("push")}), SHARDS)}


@dataclass
class Begun:
    """An assignment that was made at some time."""

    attempt: Attempt
    holder: ExecutorId


class RunLife(RuleBasedStateMachine):
    """Holders may be late, repeat themselves, or come back; the store is the one that ships in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.books = Books(lambda: self.now)
        self.runs = MemoryRuns(self.books)
        job = definition(shards=SHARDS, retry={"attempts": ATTEMPTS, "initial": "1s"})
        done(MemoryJobs(self.books).add(job, lambda _: None))
        wanted = run_of(shards=SHARDS, retry={"attempts": ATTEMPTS, "initial": "1s"})
        self.run_id = done(self.runs.add(job.name, wanted.cause, wanted.key, lambda *_: wanted)).id
        self.begun: list[Begun] = []
        self.ended: dict[int, Shard] = {}

    def shard(self, index: int) -> Shard:
        return done(self.runs.list_shards(self.run_id))[index]

    @rule(slots=st.tuples(st.integers(0, 2), st.integers(0, 2)))
    def assign(self, slots: tuple[int, int]) -> None:
        rooms = [
            Room(executor, executor, Group("promotion"), frozenset({HandlerName("push")}), count, 0)
            for executor, count in zip(EXECUTORS, slots, strict=True)
        ]
        made = done(self.runs.claim_waiting(Takers(LEASE, OFFERS, lambda waiting: route(waiting, rooms))))
        for assignment in made:
            new = assignment.shard
            earlier = [begun.attempt.term for begun in self.begun if begun.attempt.index == new.index]
            assert new.term > max(earlier, default=0), "terms strictly rise"
            assert assignment.shard.attempt <= ATTEMPTS
            self.begun.append(Begun(new.current, new.holder))

    @rule(seconds=st.integers(0, 7))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def reap(self) -> None:
        done(self.runs.claim_lapsed(99, on_lapse))

    @rule()
    def restart_the_admin(self) -> None:
        done(self.runs.extend(LEASE))

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        begun = data.draw(st.sampled_from(self.begun))
        change = Change(
            begun.attempt.shard,
            lambda shard, _, now: on_beat(shard, begun.holder, begun.attempt, LEASE, now),
        )
        done(self.runs.finish([change]))

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), state=st.sampled_from(OutcomeState), term=st.integers(0, 20))
    def report(self, data: st.DataObject, state: OutcomeState, term: int) -> None:
        """Of any attempt that was ever begun, so most are late or said before."""
        begun = data.draw(st.sampled_from(self.begun))
        outcome = Outcome(begun.attempt, state, Counters(), is_retryable=True, broker_term=term)
        before = self.shard(begun.attempt.index)
        change = Change(begun.attempt.shard, lambda shard, run, now: on_outcome(shard, outcome, run, now))
        done(self.runs.finish([change]))
        after = self.shard(begun.attempt.index)
        if before.state not in OPEN or before.term != begun.attempt.term:
            assert after == before, "what is late or ended changes nothing"
        if verdict(before, begun.attempt) is Verdict.SUPERSEDED:
            assert after == before
        else:
            assert verdict(after, begun.attempt) is Verdict.ACCEPTED, "once accepted, accepted again"

    @precondition(lambda self: len(self.begun) > 4 and not self.books.runs[self.run_id].is_cancelling)
    @rule()
    def cancel(self) -> None:
        if any(shard.state in OPEN for shard in done(self.runs.list_shards(self.run_id))):
            done(self.runs.cancel(self.run_id, on_cancel, "on request"))

    @invariant()
    def what_has_ended_stays_as_it_is(self) -> None:
        for shard in done(self.runs.list_shards(self.run_id)):
            if shard.index in self.ended:
                assert shard == self.ended[shard.index]
            elif shard.state not in OPEN:
                self.ended[shard.index] = shard

    @invariant()
    def the_run_ends_with_its_last_shard(self) -> None:
        is_open = any(shard.state in OPEN for shard in done(self.runs.list_shards(self.run_id)))
        assert (self.books.runs[self.run_id].ended_at is None) == is_open


TestRunLife = RunLife.TestCase
TestRunLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
