"""Whatever fires, is asked for, ends and is cancelled: overlap policies keep their word, fixed delays their chain."""

from datetime import datetime, timedelta
from itertools import count
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from admin.domain.job import Job
from admin.domain.overlap import REPLACED
from admin.domain.run import Cause, OutcomeState, Run, RunState, on_cancel
from admin.operations.fleet import Fleet
from admin.operations.jobs import Jobs
from admin.store.memory.books import Books
from admin.store.memory.jobs import MemoryJobs
from admin.store.memory.runs import MemoryRuns
from tests.support.admin_factories import LEASE, NOW, definition, order
from tests.support.admin_stores import PUSH, Stores
from tests.support.admin_twins import Nobody, Silent, SimulatedClock, done

FAST = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
OVERLAPS = (
    {"overlap": "skip"},
    {"overlap": "queue"},
    {"overlap": "queue", "overlap_limit": 2},
    {"overlap": "replace"},
    {"overlap": "allow"},
    {"overlap": "allow", "overlap_limit": 2},
)


class Life(RuleBasedStateMachine):
    """One job in memory, and all that befalls its runs."""

    trigger: ClassVar[dict[str, str]]

    def __init__(self) -> None:
        super().__init__()
        self.clock = SimulatedClock(NOW)
        books = Books(self.clock)
        self.stores = Stores(MemoryJobs(books), MemoryRuns(books), None, None)
        fleet = Fleet(Nobody(), self.clock, LEASE)
        self.jobs = Jobs(self.stores.jobs, self.stores.runs, fleet, Silent(), self.clock, None)
        self.numbers = count(1)
        self.fields: dict[str, object] = {}

    @initialize(overlap=st.sampled_from(OVERLAPS))
    def begin(self, overlap: dict[str, object]) -> None:
        self.fields = {"trigger": self.trigger, "misfire": "fire_all", **overlap}
        done(self.jobs.create(definition(**self.fields)))

    @rule(seconds=st.sampled_from([0.5, 1, 2, 2, 5]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)
        self.plan()

    def plan(self) -> None:
        done(self.stores.plan(self.numbers))

    @rule()
    def somebody_asks_for_one(self) -> None:
        wanted = order(next(self.numbers), fire_at=self.clock.now)
        done(self.stores.add(wanted))

    @rule()
    def turns_are_given(self) -> None:
        before = self.active()
        queued = sorted((run for run in before if run.is_queued), key=lambda run: (run.fire_at, run.id))
        turned = done(self.stores.runs.claim_queued(9))
        for run in turned.started:
            assert not any(not each.is_queued for each in before), "while another is under way"
            assert run.id == (queued[-1] if self.fields["overlap"] == "replace" else queued[0]).id, "not in order"
        for run in turned.stop:
            done(self.stores.runs.cancel(run.id, on_cancel, REPLACED))

    @rule()
    def shards_are_assigned(self) -> None:
        done(self.stores.assign())

    @precondition(lambda self: self.active())
    @rule(data=st.data(), state=st.sampled_from([OutcomeState.SUCCEEDED, OutcomeState.FAILED, OutcomeState.SKIPPED]))
    def one_ends(self, data: st.DataObject, state: OutcomeState) -> None:
        self.end(data.draw(st.sampled_from(self.active())), state)

    def end(self, run: Run, state: OutcomeState) -> None:
        for shard in done(self.stores.runs.list_shards(run.id)):
            done(self.stores.report(shard.current, state))

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def one_is_cancelled(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.active()))
        done(self.stores.cancel(run))

    def all(self) -> list[Run]:
        return done(self.stores.runs.list(job=None, state=None, before=None, limit=9_999))

    def active(self) -> list[Run]:
        return [run for run in self.all() if not run.is_over]

    def job(self) -> Job:
        return done(self.jobs.get(PUSH))

    def drain(self) -> list[Run]:
        """No more fires: what goes on ends well, and what waits has its turn. Gives them as they ended."""
        done(self.jobs.pause(PUSH))
        ended: list[Run] = []
        while before := self.active():
            self.turns_are_given()
            self.shards_are_assigned()
            for run in before:
                self.end(run, OutcomeState.SUCCEEDED)
            ended += [run for run in self.all() if run.is_over and run.id in {each.id for each in before}]
        return ended


class Overlaps(Life):
    """Fires at a fixed rate."""

    trigger: ClassVar = {"every": "2s"}

    @invariant()
    def never_too_many_at_once(self) -> None:
        active = self.active()
        begun = [run for run in active if not run.is_queued]
        match self.fields.get("overlap"), self.fields.get("overlap_limit"):
            case "skip", _:
                assert len(active) <= 1
            case "queue", limit:
                assert len(begun) <= 1
                assert len(active) - len(begun) <= (limit or 100)
            case "replace", _:
                assert len(begun) <= 1
            case "allow", limit:
                assert limit is None or len(active) <= limit

    def teardown(self) -> None:
        if not self.fields:
            return
        latest = max(self.active(), key=lambda run: (run.fire_at, run.id), default=None)
        waiting = {run.id for run in self.active() if not run.is_cancelling}
        ended = self.drain()
        succeeded = [run for run in ended if run.state is RunState.SUCCEEDED]
        if self.fields["overlap"] != "replace":
            assert waiting <= {run.id for run in succeeded}, "one was lost"
        elif latest is not None and not latest.is_cancelling:
            assert succeeded[-1].id == latest.id, "it ends with the latest"


class Delays(Life):
    """One delay lies between the end of a fire's run and the next fire, however it ends and whatever is edited."""

    trigger: ClassVar = {"after": "3s"}

    def __init__(self) -> None:
        super().__init__()
        self.delay = timedelta(seconds=3)
        self.expected_at: datetime | None = NOW + self.delay
        self.is_paused = False
        self.last: Run | None = None  # of the last fire

    @invariant()
    def the_chain_goes_on(self) -> None:
        if not self.fields:
            return
        fires = [run for run in self.all() if run.cause is Cause.FIRE]
        if fires and (self.last is None or fires[0].id != self.last.id):
            assert len(fires) == 1 or fires[1].id == (self.last and self.last.id), "one fire at a time"
            assert fires[0].fire_at == self.expected_at
            self.expected_at = None
            self.last = fires[0]
            self._led_on()
        elif self.last is not None:
            was_over, self.last = self.last.is_over, next(run for run in fires if run.id == self.last.id)
            if not was_over:
                self._led_on()
        assert self.job().next_fire_at == self.expected_at

    def _led_on(self) -> None:
        if self.last and self.last.is_over and self.expected_at is None and not self.is_paused:
            self.expected_at = self.last.ended_at + self.delay

    @precondition(lambda self: any(run.state is RunState.FAILED for run in self.all()))
    @rule(data=st.data())
    def one_is_retried(self, data: st.DataObject) -> None:
        failed = [run for run in self.all() if run.state is RunState.FAILED]
        done(self.stores.runs.add_attempts(data.draw(st.sampled_from(failed[:4])).id))

    @rule(seconds=st.sampled_from([3, 4]), is_same=st.booleans())
    def it_is_edited(self, seconds: int, is_same: bool) -> None:
        delay = self.delay if is_same else timedelta(seconds=seconds)
        self.fields["trigger"] = {"after": f"{delay.total_seconds():g}s"}
        done(self.jobs.update(definition(**self.fields, params={"n": next(self.numbers)}), None))
        if self._is_awaited():
            self.expected_at = None
        elif delay != self.delay and not self.is_paused:
            self.expected_at = self.clock.now + delay
        self.delay = delay

    def _is_awaited(self) -> bool:
        """Whether the run of the last fire has not ended: its end leads on."""
        return self.last is not None and not next(run for run in self.all() if run.id == self.last.id).is_over

    @rule()
    def it_is_paused(self) -> None:
        done(self.jobs.pause(PUSH))
        self.is_paused, self.expected_at = True, None

    @rule()
    def it_is_resumed(self) -> None:
        done(self.jobs.resume(PUSH))
        if self._is_awaited():  # also where it was not paused, and the run is tried again
            self.expected_at = None
        elif self.is_paused:
            self.expected_at = self.clock.now + self.delay
        self.is_paused = False


TestOverlaps = Overlaps.TestCase
TestOverlaps.settings = FAST
TestDelays = Delays.TestCase
TestDelays.settings = FAST


def behind_a_failed_fire(overlap: str) -> tuple[Delays, Run]:
    life = Delays()
    life.begin({"overlap": overlap})
    life.time_passes(3)
    run = life.active()[0]
    life.shards_are_assigned()
    life.end(run, OutcomeState.FAILED)
    return life, run


def test_a_retry_of_an_older_fires_run_leads_to_nothing() -> None:
    life, first = behind_a_failed_fire("allow")
    life.time_passes(3)
    done(life.stores.runs.add_attempts(first.id))
    life.shards_are_assigned()
    life.end(first, OutcomeState.SUCCEEDED)
    assert life.job().next_fire_at is None, "the run of the last fire goes on"


def test_a_job_that_is_resumed_while_its_last_fires_run_is_tried_again_goes_on_behind_its_end() -> None:
    life, run = behind_a_failed_fire("skip")
    done(life.stores.runs.add_attempts(run.id))
    life.it_is_resumed()
    assert life.job().next_fire_at is None
    life.shards_are_assigned()
    life.time_passes(1)
    life.end(run, OutcomeState.SUCCEEDED)
    assert life.job().next_fire_at == life.clock.now + life.delay


def test_behind_a_clock_that_was_set_back_a_fixed_delay_may_name_the_time_of_an_earlier_fire() -> None:
    life = Life()
    life.clock.now = NOW + timedelta(seconds=2)
    start_at = life.clock.now + timedelta(seconds=2)
    done(life.jobs.create(definition(trigger={"after": "1s", "start": start_at.isoformat()})))
    life.time_passes(2)
    life.shards_are_assigned()
    life.clock.now = NOW
    life.end(life.active()[0], OutcomeState.SUCCEEDED)
    assert life.job().next_fire_at == start_at
    life.time_passes(5)
    fires = life.all()
    assert [run.fire_at for run in fires] == [start_at] * 2
    assert len({run.key for run in fires}) == 2
