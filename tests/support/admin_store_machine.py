"""Whatever can be asked of the admin's stores, in any order, of two implementations at once."""

import asyncio
from datetime import timedelta
from itertools import chain
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from admin.domain.names import ExecutorId, JobName, RunId
from admin.domain.overlap import REPLACED
from admin.domain.plan import Order
from admin.domain.routing import Assignment, Room, route
from admin.domain.run import Cause, Outcome, OutcomeState, RunState, on_cancel, on_lapse
from admin.domain.shard import Counters, Fault
from admin.ports import Executor, Offer, Takers
from admin.store.databases.sqlite import SqliteDatabase
from tests.support.admin_factories import LEASE, NOW, definition
from tests.support.admin_twins import GROUPS, HANDLERS, SimulatedClock, Twins, wipe

NAMES = (JobName("push"), JobName("mail"), JobName("text"))
TRIGGERS = (
    {"manual": True},
    {"every": "2s"},
    {"cron": "*/3 * * * * ?"},
    {"after": "4s"},
    {"after": "1s", "start": "2026-11-22T09:00:10Z"},
    {"at": "2026-11-22T09:00:07Z"},
    {"every": "5s", "jitter": "3s", "end": "2026-11-22T10:00:00Z"},
)
OVERLAPS = (
    {"overlap": "skip"},
    {"overlap": "queue"},
    {"overlap": "queue", "overlap_limit": 1},
    {"overlap": "replace"},
    {"overlap": "allow"},
    {"overlap": "allow", "overlap_limit": 2},
)
RETRIES = ({}, {"attempts": 3, "initial": "1s", "jitter": 1.0}, {"attempts": 2, "initial": "0s", "losses": 2})
KEYS = (None, None, "a", "b")
SECONDS = (0, 0.0015, 0.5, 1, 2, 4, 4, 6, 45, 3600, -1, -5, -3600)
DEFINITIONS = st.fixed_dictionaries(
    {
        "trigger": st.sampled_from(TRIGGERS),
        "retry": st.sampled_from(RETRIES),
        "misfire": st.sampled_from(["fire_once", "skip", "fire_all"]),
        "shards": st.sampled_from([1, 1, 2, 3, "executors"]),
        "timeout": st.sampled_from([None, None, "3s"]),
        "group": st.sampled_from(GROUPS),
        "params": st.sampled_from([{}, {"text": "推送"}]),
    }
)
FAULTS = st.sampled_from([None, Fault("ValueError", "no", "Traceback"), Fault("x", "")])
COUNTERS = st.sampled_from([Counters(), Counters(3, 2, "[1]"), Counters(9, 9, "[7]", 1, 2, '{"sent":5}')])
MOST_WATCHED = 6


class StoreMachine(RuleBasedStateMachine):
    """Subclasses bring the database and what runs coroutines."""

    clock: ClassVar[SimulatedClock]
    database: ClassVar[SqliteDatabase]
    runner: ClassVar[asyncio.Runner]

    def __init__(self) -> None:
        super().__init__()
        self.clock.now = NOW
        self.runner.run(wipe(self.database))
        self.twins = Twins(self.database, self.clock, self.runner)
        self.made: list[Assignment] = []
        self.runs: list[RunId] = []

    def took(self, found: Any) -> None:
        """Remembers assignments as they were given."""
        self.made += [Assignment(*each) for each in found]

    def seen(self, runs: Any) -> None:
        self.runs += [run.id for run in runs if run.id not in self.runs]

    @initialize(name=st.sampled_from(NAMES), fields=DEFINITIONS, overlap=st.sampled_from(OVERLAPS))
    def begin(self, name: JobName, fields: dict[str, Any], overlap: dict[str, Any]) -> None:
        self.create(name, fields, overlap, None)

    @rule(seconds=st.sampled_from(SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)

    # Jobs

    @rule(
        name=st.sampled_from(NAMES),
        fields=DEFINITIONS,
        overlap=st.sampled_from(OVERLAPS),
        key=st.sampled_from(KEYS),
    )
    def create(self, name: JobName, fields: dict[str, Any], overlap: dict[str, Any], key: str | None) -> None:
        new = definition(name=name, **fields, **overlap)
        self.twins.do(lambda twin: twin.jobs.create(new, key))

    @rule(
        name=st.sampled_from(NAMES),
        fields=DEFINITIONS,
        overlap=st.sampled_from(OVERLAPS),
        expected=st.sampled_from([None, None, 1]),
    )
    def edit(self, name: JobName, fields: dict[str, Any], overlap: dict[str, Any], expected: int | None) -> None:
        new = definition(name=name, **fields, **overlap)
        self.twins.do(lambda twin: twin.jobs.update(new, expected))

    @rule(name=st.sampled_from(NAMES), is_pause=st.booleans())
    def pause_or_resume(self, name: JobName, is_pause: bool) -> None:
        self.twins.do(lambda twin: twin.jobs.pause(name) if is_pause else twin.jobs.resume(name))

    @rule(name=st.sampled_from(NAMES), expected=st.sampled_from([None, 1]))
    def delete(self, name: JobName, expected: int | None) -> None:
        self.twins.do(lambda twin: twin.jobs.delete(name, expected))

    # Runs

    @rule(name=st.sampled_from(NAMES), params=st.sampled_from([{}, {"a": 1}]), key=st.sampled_from(KEYS))
    def trigger(self, name: JobName, params: dict[str, object], key: str | None) -> None:
        self.twins.do(lambda twin: twin.jobs.trigger(name, params, key))

    @rule(name=st.sampled_from(NAMES), key=st.sampled_from(["c", "d"]), total=st.sampled_from([None, 2]))
    def add(self, name: JobName, key: str, total: int | None) -> None:
        def order(run_id: RunId) -> Order:
            return Order(run_id, Cause.BACKFILL, key, self.clock.now.replace(microsecond=0), total=total)

        self.twins.do(lambda twin: twin.stores.add(order(twin.new_run_id()), job=name))

    @rule(slots=st.sampled_from([None, None, 0, 1, 9]))
    def claim_due(self, slots: int | None) -> None:
        takers = None if slots is None else _takers(slots, LEASE)
        _, runs, assignments, _ = self.twins.do(lambda twin: twin.stores.plan(twin.numbers, takers))
        self.seen(runs)
        self.took(assignments)

    @rule(stops=st.booleans())
    def claim_queued(self, stops: bool) -> None:
        started, ended, stop = self.twins.do(lambda twin: twin.stores.runs.claim_queued(99))
        self.seen(chain(started, ended, stop))
        for run in stop if stops else ():
            self.twins.do(lambda twin, run=run: twin.stores.runs.cancel(run.id, on_cancel, REPLACED))

    @rule(slots=st.sampled_from([1, 2, 9]), seconds=st.sampled_from([0, 5, 5, 60]))
    def claim_waiting(self, slots: int, seconds: int) -> None:
        takers = _takers(slots, timedelta(seconds=seconds))
        self.took(self.twins.do(lambda twin: twin.stores.runs.claim_waiting(takers)))

    @rule(limit=st.sampled_from([1, 99]))
    def claim_lapsed(self, limit: int) -> None:
        self.twins.do(lambda twin: twin.stores.runs.claim_lapsed(limit, on_lapse))

    @rule(seconds=st.sampled_from([0, 5]))
    def extend(self, seconds: int) -> None:
        self.twins.do(lambda twin: twin.stores.runs.extend(timedelta(seconds=seconds)))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run_id = self._run(data)
        self.twins.do(lambda twin: twin.stores.runs.cancel(run_id, on_cancel, "cancelled on request"))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        run_id = self._run(data)
        self.twins.do(lambda twin: twin.runs.retry(run_id))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def rerun(self, data: st.DataObject, key: str | None) -> None:
        run_id = self._run(data)
        self.twins.do(lambda twin: twin.runs.rerun(run_id, key))

    @rule(
        seconds=st.sampled_from([0, 5, 3600, -3600]),
        most=st.sampled_from([0, 3, 99]),
        limit=st.sampled_from([1, 99]),
    )
    def prune(self, seconds: int, most: int, limit: int) -> None:
        self.twins.do(lambda twin: twin.stores.runs.prune(timedelta(seconds=seconds), most, limit))

    # Attempts

    @precondition(lambda self: self.made)
    @rule(data=st.data(), state=st.sampled_from(OutcomeState), counters=COUNTERS, fault=FAULTS)
    def report(self, data: st.DataObject, state: OutcomeState, counters: Counters, fault: Fault | None) -> None:
        """Of any attempt that ever was, so that many come late or again; several at once, of one shard maybe."""
        chosen = data.draw(st.lists(st.sampled_from(self.made[-12:]), min_size=1, max_size=3))
        fields = {
            "result": data.draw(st.sampled_from(["", '{"n":1}'])),
            "fault": fault,
            "is_retryable": data.draw(st.booleans()),
            "retry_after": data.draw(st.sampled_from([None, None, timedelta(seconds=2, microseconds=1500)])),
            "broker_term": data.draw(st.sampled_from([0, 3])),
        }
        outcomes = [Outcome(each.shard.current, state, counters, **fields) for each in chosen]
        executor = _executor(chosen[0])
        self.twins.do(lambda twin: twin.attempts.report(executor, outcomes))

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def end_all(self, data: st.DataObject) -> None:
        """What goes on ends, most of it well."""
        state = data.draw(st.sampled_from([OutcomeState.SUCCEEDED, OutcomeState.SUCCEEDED, OutcomeState.FAILED]))
        by_group = {each.run.group: each for each in self.made}
        for group, one in by_group.items():
            mine = [each.shard.current for each in self.made if each.run.group == group]
            outcomes = [Outcome(attempt, state, Counters()) for attempt in mine]
            self.twins.do(lambda twin, one=one, said=outcomes: twin.attempts.report(_executor(one), said))
        self.made.clear()

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.made), min_size=1, max_size=3))
        held = [each.shard.current for each in chosen]
        self.twins.do(lambda twin: twin.attempts.beat(_executor(chosen[0]), held))

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        one = self._made(data)
        self.twins.do(lambda twin: twin.attempts.refuse(_executor(one), one.shard.current))

    @precondition(lambda self: self.made)
    @rule(data=st.data(), counters=COUNTERS)
    def progress(self, data: st.DataObject, counters: Counters) -> None:
        one = self._made(data)
        self.twins.do(lambda twin: twin.attempts.progress(_executor(one), {one.shard.current: counters}))

    @precondition(lambda self: self.made)
    @rule(data=st.data(), name=st.sampled_from(["log", "scan/0"]), value=st.sampled_from(["A", "B"]))
    def pin(self, data: st.DataObject, name: str, value: str) -> None:
        one = self._made(data)
        self.twins.do(lambda twin: twin.attempts.pin(_executor(one), one.shard.current, name, value))

    # What can be read

    @rule(
        job=st.sampled_from([None, *NAMES]),
        state=st.sampled_from([None, *RunState]),
        limit=st.sampled_from([1, 3, 99]),
        data=st.data(),
    )
    def list_runs(self, job: JobName | None, state: RunState | None, limit: int, data: st.DataObject) -> None:
        before = data.draw(st.sampled_from([None, *self.runs[-8:]]))
        found = self.twins.do(lambda t: t.stores.runs.list(job=job, state=state, before=before, limit=limit))
        self.seen(found)
        for run_id in self.runs[-3:]:
            self.twins.do(lambda twin, run_id=run_id: twin.stores.runs.get(run_id))

    @rule(group=st.sampled_from([None, *GROUPS]), after=st.sampled_from([None, *NAMES]), limit=st.sampled_from([1, 9]))
    def list_jobs(self, group: Any, after: JobName | None, limit: int) -> None:
        self.twins.do(lambda twin: twin.stores.jobs.list(group=group, after=after, limit=limit))

    @invariant()
    def what_is_kept_is_the_same(self) -> None:
        self.seen(self.twins.see(self.runs[-MOST_WATCHED:]))

    def _run(self, data: st.DataObject) -> RunId:
        return data.draw(st.sampled_from(self.runs[-8:]))

    def _made(self, data: st.DataObject) -> Assignment:
        return data.draw(st.sampled_from(self.made[-8:]))


def _takers(slots: int, lease: timedelta) -> Takers:
    rooms = [
        Room(ExecutorId(f"{group}-{number}"), f"{group} {number}", group, HANDLERS, slots, 0)
        for group in GROUPS
        for number in (1, 2)
    ]
    return Takers(lease, {group: Offer(HANDLERS, slots) for group in GROUPS}, lambda waiting: route(waiting, rooms))


def _executor(one: Assignment) -> Executor:
    group = one.run.group
    holder: ExecutorId | None = one.shard.holder
    assert holder is not None
    return Executor(holder, "", group, HANDLERS, 9, 0, False, "", NOW, NOW)
